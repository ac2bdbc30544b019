"""The tracker of improvements for synchronous code."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from karen_learner.blocking.learner import BlockingLearner
from karen_learner.blocking.portal import Blocking, blocking
from karen_learner.contracts import Clock
from karen_learner.improvement.tracking import ImprovementTracker as AsyncTracker
from karen_learner.records import utc_now
from karen_learner.settings import Settings


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
        self._owns_portal = learner is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file of the tickets and the thread that this object made."""
        self._portal.call(self._twin.close)
        if self._owns_portal:
            self._portal.close()

    plan_ticket = blocking(AsyncTracker.plan_ticket)
    create_improvement_ticket = blocking(AsyncTracker.create_improvement_ticket)
    tickets = blocking(AsyncTracker.tickets)
    ticket = blocking(AsyncTracker.ticket)
    impacts = blocking(AsyncTracker.impacts)
    mark_implemented = blocking(AsyncTracker.mark_implemented)
    dismiss = blocking(AsyncTracker.dismiss)
    measure_impact = blocking(AsyncTracker.measure_impact)
    calculate_cumulative_roi = blocking(AsyncTracker.calculate_cumulative_roi)
