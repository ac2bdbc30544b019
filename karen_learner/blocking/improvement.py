"""The analysis engine and the health monitor for synchronous code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self, TypeVar

from karen_learner.blocking.learner import BlockingLearner
from karen_learner.blocking.portal import Blocking, Portal, blocking
from karen_learner.contracts import Clock
from karen_learner.improvement.engine import AIAnalysisEngine as AsyncEngine
from karen_learner.improvement.health import HealthMonitor as AsyncMonitor
from karen_learner.improvement.home import AnalysedHome, AnalysisConfig
from karen_learner.records import utc_now

HomeT = TypeVar("HomeT", bound=AnalysedHome)


class _OnHome(Blocking[HomeT]):
    """A twin that closes the store and the thread that it made."""

    def __init__(self, twin: HomeT, portal: Portal | None) -> None:
        super().__init__(twin, portal)
        self._owns_portal = portal is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store and the thread that this object made. Idempotent."""
        if self._owns_portal and not self._portal.is_closed:
            self._portal.call(self._twin.close)
            self._portal.close()


class AIAnalysisEngine(_OnHome[AsyncEngine]):
    """`improvement.AIAnalysisEngine` for synchronous code. With a learner it shares the learner's thread."""

    def __init__(
        self,
        config: AnalysisConfig | None = None,
        *,
        learner: BlockingLearner | None = None,
        clock: Clock = utc_now,
    ) -> None:
        twin = AsyncEngine(config, learner=None if learner is None else learner.learner, clock=clock)
        super().__init__(twin, None if learner is None else learner.portal)
        self.calculate_roi = twin.calculate_roi

    analyze_weekly_performance = blocking(AsyncEngine.analyze_weekly_performance)
    evidence = blocking(AsyncEngine.evidence)
    generate_recommendations = blocking(AsyncEngine.generate_recommendations)
    recommendations = blocking(AsyncEngine.recommendations)
    mark_recommendation = blocking(AsyncEngine.mark_recommendation)
    track_implementation_impact = blocking(AsyncEngine.track_implementation_impact)


class HealthMonitor(_OnHome[AsyncMonitor]):
    """`improvement.HealthMonitor` for synchronous code. With a learner it shares the learner's thread."""

    def __init__(
        self,
        alert_thresholds: Mapping[str, float] | None = None,
        *,
        config: AnalysisConfig | None = None,
        learner: BlockingLearner | None = None,
        clock: Clock = utc_now,
    ) -> None:
        used = None if learner is None else learner.learner
        twin = AsyncMonitor(alert_thresholds, config=config, learner=used, clock=clock)
        super().__init__(twin, None if learner is None else learner.portal)

    check_system_health = blocking(AsyncMonitor.check_system_health)
    trigger_alerts = blocking(AsyncMonitor.trigger_alerts)
    escalate_critical_issues = blocking(AsyncMonitor.escalate_critical_issues)
    generate_health_dashboard = blocking(AsyncMonitor.generate_health_dashboard)
