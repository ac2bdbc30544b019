"""The part of the service that measures deployments and other changes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from karen_learner.autonomy.parts import ServedLearner
from karen_learner.autonomy.service import AutonomousService
from karen_learner.errors import KarenLearnerError
from karen_learner.improvement.tracking import ImprovementTracker
from karen_learner.improvement.tracking.deployments import follow_deployments

logger = logging.getLogger(__name__)

INTERVAL = timedelta(minutes=1)
LONGEST = timedelta(hours=1)
"""A tenant without a new champion and without a due measurement is looked at again after this time."""


class ImprovementPart:
    """Opens and measures the tickets of all tenants.

    Once a minute, for the tenants with a new champion or a due measurement.
    """

    def __init__(self, learner: ServedLearner, tenants: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._learner = learner
        self._tenants = tenants
        self._last: datetime | None = None
        self._next: dict[str, tuple[str | None, datetime]] = {}

    @classmethod
    def join(cls, service: AutonomousService) -> ImprovementPart:
        """The part of a service, for its tenants."""
        return cls(service.learner, service.tenants)

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def tick(self, now: datetime) -> None:
        """Follow the deployments of each tenant. A failing tenant keeps no other one waiting."""
        if self._last is not None and self._last <= now < self._last + INTERVAL:
            return
        self._last = now
        for tenant_id in await self._tenants():
            try:
                await self._follow(tenant_id, now)
            except KarenLearnerError as error:
                logger.error("the tickets of %r cannot be measured: %s", tenant_id, error)

    async def _follow(self, tenant_id: str, now: datetime) -> None:
        store, settings = self._learner.store, self._learner.settings.impact
        champion = await store.champion(tenant_id)
        name = None if champion is None else champion.version
        known, due = self._next.get(tenant_id, (None, now))
        if name is None or (name == known and now < due):
            return
        tracker = ImprovementTracker(learner=self._learner, tenant_id=tenant_id, clock=lambda: now)
        waits = await follow_deployments(tracker, store, settings, now)
        self._next[tenant_id] = (name, min(now + LONGEST, waits or now + LONGEST))
