"""The troubleshooter as a part of the autonomous service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from karen_learner.autonomy.notifications import Notifier
from karen_learner.autonomy.service import AutonomousService
from karen_learner.autonomy.troubleshooter.situation import Mendable, Stream
from karen_learner.autonomy.troubleshooter.troubleshooter import AutomatedTroubleshooter
from karen_learner.contracts import Clock
from karen_learner.errors import KarenLearnerError
from karen_learner.monitoring.readings import Readings
from karen_learner.records import utc_now
from karen_learner.records.readings import Reading

logger = logging.getLogger(__name__)

GRACE_S = 30.0


class MendingPart:
    """Examines and mends in the background: a remedy may train for minutes.

    `join` makes the part of a service. The notifier's own part delivers notifications.
    """

    def __init__(
        self,
        learner: Mendable,
        notifier: Notifier,
        *,
        tenants: Sequence[str] = (),
        stream: Stream | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.troubleshooter = AutomatedTroubleshooter(
            learner, tenants=tenants, readings=self._latest, notifier=notifier, stream=stream, clock=clock
        )
        self._readings: Readings | None = None
        self._task: asyncio.Task[None] | None = None

    def join(self, service: AutonomousService) -> MendingPart:
        """Use the readings of a service."""
        self._readings = service.readings
        return self

    async def start(self) -> None:
        await self.troubleshooter.start()

    async def stop(self) -> None:
        """Wait for the present work, and cancel it after a while. A cancelled remedy is undone later."""
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=GRACE_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.troubleshooter.stop()

    async def tick(self, now: datetime) -> None:
        """Begin an examination, unless the last one still runs."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(now))

    async def _work(self, now: datetime) -> None:
        try:
            await self.troubleshooter.tick(now)
        except KarenLearnerError as error:
            logger.error("the troubleshooter failed: %s", error)
        except Exception:  # diagnoses and remedies of hosts: the next round may succeed
            logger.exception("the troubleshooter failed")

    async def _latest(self, tenant_id: str, _now: datetime) -> Mapping[str, Reading]:
        return {} if self._readings is None else self._readings.latest(tenant_id)
