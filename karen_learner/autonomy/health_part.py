"""The part of the service that checks the health of the tenants."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from karen_learner.autonomy.service import AutonomousService
from karen_learner.contracts import Clock
from karen_learner.errors import KarenLearnerError, UnknownTenant
from karen_learner.improvement import AnalysisConfig, HealthMonitor
from karen_learner.improvement.health import UNHEALTHY, ServingLearner
from karen_learner.monitoring.readings import Readings

logger = logging.getLogger(__name__)

INTERVAL = timedelta(minutes=1)
TOLD_AFTER = 2
"""Unhealthy checks in a row before people are told: the troubleshooter opens an incident first."""


class HealthPart:
    """Checks the health of all tenants once a minute, with the readings of the service.

    Tells people about an unhealthy tenant, unless an incident of it or of the home tells them already.
    """

    def __init__(
        self,
        learner: ServingLearner,
        tenants: Callable[[], Awaitable[Sequence[str]]],
        readings: Readings,
        *,
        clock: Clock,
    ) -> None:
        self._learner = learner
        self._tenants = tenants
        self._readings = readings
        self._clock = clock
        self._last: datetime | None = None
        self._monitors: dict[str, HealthMonitor] = {}
        self._failures: dict[str, int] = {}

    @classmethod
    def join(cls, learner: ServingLearner, service: AutonomousService) -> HealthPart:
        """The part of a service, for its tenants."""
        return cls(learner, service.tenants, service.readings, clock=service.clock)

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def tick(self, now: datetime) -> None:
        """Check each tenant. A failing one keeps no other one waiting."""
        if self._last is not None and self._last <= now < self._last + INTERVAL:
            return
        self._last = now
        for tenant_id in await self._tenants():
            try:
                await self._check(tenant_id)
            except UnknownTenant:  # it has log entries alone: nothing is served
                continue
            except KarenLearnerError as error:
                logger.error("the health of %r cannot be checked: %s", tenant_id, error)

    async def _check(self, tenant_id: str) -> None:
        if tenant_id not in self._monitors:
            self._monitors[tenant_id] = HealthMonitor(
                config=AnalysisConfig(tenant_id=tenant_id),
                learner=self._learner,
                clock=self._clock,
                readings=self._readings,
            )
        monitor = self._monitors[tenant_id]
        status = await monitor.check_system_health()
        before = self._failures.get(tenant_id)
        failures = (before or 0) + 1 if status.system_health in UNHEALTHY else 0
        self._failures[tenant_id] = failures
        if failures == before == 0 or 0 < failures < TOLD_AFTER:
            return
        if failures and await self._has_incident(tenant_id):
            return
        await monitor.trigger_alerts(status)
        if status.system_health == "critical":
            await monitor.escalate_critical_issues(failures)

    async def _has_incident(self, tenant_id: str) -> bool:
        incidents = await self._learner.store.unended_incidents()
        return any(one.tenant_id in (None, tenant_id) for one in incidents)
