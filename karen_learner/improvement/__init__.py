"""Analyses performance by component, recommends changes, and measures their effects."""

from typing import TYPE_CHECKING, Any

from karen_learner.lazy_imports import lazily

if TYPE_CHECKING:
    from karen_learner.improvement.engine import AIAnalysisEngine
    from karen_learner.improvement.health import HealthMonitor
    from karen_learner.improvement.home import AnalysisConfig
    from karen_learner.improvement.roi import calculate_roi
    from karen_learner.improvement.tracking import ImprovementTracker

_MODULES = {
    "AIAnalysisEngine": "engine",
    "AnalysisConfig": "home",
    "HealthMonitor": "health",
    "ImprovementTracker": "tracking",
    "calculate_roi": "roi",
}

__all__ = ["AIAnalysisEngine", "AnalysisConfig", "HealthMonitor", "ImprovementTracker", "calculate_roi"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return lazily(f"{__name__}.{_MODULES[name]}", name)
