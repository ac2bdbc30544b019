"""The analysis engine, the health monitor and the tracker of improvements for synchronous code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from karen_learner.blocking.learner import BlockingLearner
from karen_learner.blocking.portal import Blocking, blocking
from karen_learner.contracts import Clock
from karen_learner.improvement.engine import AIAnalysisEngine as AsyncEngine
from karen_learner.improvement.health import HealthMonitor as AsyncMonitor
from karen_learner.improvement.home import AnalysedHome, AnalysisConfig
from karen_learner.improvement.tracking import ImprovementTracker as AsyncTracker
from karen_learner.records import utc_now
from karen_learner.settings import Settings

HomeT = TypeVar("HomeT", bound=AnalysedHome)


class _OnHome(Blocking[HomeT]):
    """A twin that closes the store and the thread that it made."""

    def close(self) -> None:
        """Close the store and the thread that this object made. Idempotent."""
        if self._owns_portal and not self._portal.is_closed:
            self._portal.call(self._twin.close)
            super().close()


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


class ImprovementTracker(Blocking[AsyncTracker]):
    """`improvement.ImprovementTracker` for synchronous code. With a learner it shares its thread."""

    def __init__(
        self,
        tracking_database: Path | str | None = None,
        *,
        learner: BlockingLearner | None = None,
        tenant_id: str = "default",
        settings: Settings | None = None,
        clock: Clock = utc_now,
    ) -> None:
        twin = AsyncTracker(
            tracking_database,
            learner=None if learner is None else learner.learner,
            tenant_id=tenant_id,
            settings=settings,
            clock=clock,
        )
        super().__init__(twin, None if learner is None else learner.portal)

    def close(self) -> None:
        """Close the file of the tickets and the thread that this object made."""
        self._portal.call(self._twin.close)
        super().close()

    plan_ticket = blocking(AsyncTracker.plan_ticket)
    create_improvement_ticket = blocking(AsyncTracker.create_improvement_ticket)
    tickets = blocking(AsyncTracker.tickets)
    ticket = blocking(AsyncTracker.ticket)
    impacts = blocking(AsyncTracker.impacts)
    mark_implemented = blocking(AsyncTracker.mark_implemented)
    dismiss = blocking(AsyncTracker.dismiss)
    measure_impact = blocking(AsyncTracker.measure_impact)
    calculate_cumulative_roi = blocking(AsyncTracker.calculate_cumulative_roi)
