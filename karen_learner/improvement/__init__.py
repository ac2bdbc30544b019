"""Analyses performance by component, recommends changes, and measures their effects."""

from karen_learner.improvement.engine import AIAnalysisEngine
from karen_learner.improvement.health import HealthMonitor
from karen_learner.improvement.home import AnalysisConfig
from karen_learner.improvement.roi import calculate_roi
from karen_learner.improvement.tracking import ImprovementTracker

__all__ = ["AIAnalysisEngine", "AnalysisConfig", "HealthMonitor", "ImprovementTracker", "calculate_roi"]
