"""The parts of the autonomous service, and the objects that they share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from karen_learner.contracts import MemoryStore
from karen_learner.errors import KarenLearnerError, without_message
from karen_learner.models.files import HomeLayout
from karen_learner.monitoring.retraining import CycleLearner
from karen_learner.records import Alert, LearningCycleResult
from karen_learner.records.triggers import RunStatus, Schedule, ScheduledJob, TriggeredMode
from karen_learner.settings import Settings

logger = logging.getLogger(__name__)

AlertSink = Callable[[str, Alert], None]
"""Receives the alerts of parts with their tenant. Never waits."""


class Part(Protocol):
    """A part of the service. The service calls `tick` every few seconds; an error is logged."""

    async def start(self) -> None:
        """Get ready for the first tick."""

    async def stop(self) -> None:
        """Release all resources. Idempotent."""

    async def tick(self, now: datetime) -> None:
        """Do what is due at this time (UTC)."""


class ServedLearner(CycleLearner, Protocol):
    """The part of a learner that the service uses. An `AutonomousLearner` is one."""

    settings: Settings
    layout: HomeLayout
    store: MemoryStore

    async def start(self) -> None: ...


OnEnd = Callable[[RunStatus], None]
"""Receives the status of a scheduled run. Never waits."""


class ScheduledRuns(Protocol):
    """Runs the job of schedules in the background."""

    job: ScheduledJob

    def may_begin(self, schedule: Schedule, now: datetime, /) -> bool:
        """Whether a due run may begin now. If not, the next tick asks again."""

    def begin(self, schedule: Schedule, on_end: OnEnd) -> None:
        """Begin a run. `on_end` is called once, at its end."""


OnResult = Callable[[LearningCycleResult | None], Awaitable[None]]
"""Receives the result of a cycle; None if it raised an error. Not called for a cancelled one."""


class CycleQueue:
    """Runs requested cycles in the background, one after the other: each one trains on all cores it may use.

    A tenant waits at most once.
    """

    job: ScheduledJob = "cycle"

    def __init__(self, learner: ServedLearner) -> None:
        self._learner = learner
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()

    def is_queued(self, tenant_id: str) -> bool:
        """Whether a cycle of the tenant waits or runs."""
        return tenant_id in self._tasks

    def put(
        self,
        tenant_id: str,
        *,
        mode: TriggeredMode,
        force: bool,
        reason: str,
        on_result: OnResult | None = None,
    ) -> bool:
        """Queue a cycle. False if one of this tenant is queued already."""
        if tenant_id in self._tasks:
            return False
        run = self._run(tenant_id, mode, force, reason, on_result)
        self._tasks[tenant_id] = asyncio.create_task(run)
        return True

    def may_begin(self, schedule: Schedule, _now: datetime) -> bool:
        """Whether no cycle of the tenant is queued."""
        return not self.is_queued(schedule.tenant_id)

    def begin(self, schedule: Schedule, on_end: OnEnd) -> None:
        """Queue the cycle of a schedule."""

        async def end(result: LearningCycleResult | None) -> None:
            on_end("failed" if result is None else result.status)

        self.put(
            schedule.tenant_id,
            mode=schedule.mode,
            force=False,
            reason=f"schedule {schedule.name}: {schedule.expression}",
            on_result=end,
        )

    async def _run(
        self, tenant_id: str, mode: TriggeredMode, force: bool, reason: str, on_result: OnResult | None
    ) -> None:
        try:
            async with self._one_at_a_time:
                result = await self._result(tenant_id, mode, force, reason)
            if on_result is not None:
                await on_result(result)
        except KarenLearnerError as error:
            logger.error("the result of a cycle of %r is not stored: %s", tenant_id, error)
        finally:
            del self._tasks[tenant_id]

    async def _result(
        self, tenant_id: str, mode: TriggeredMode, force: bool, reason: str
    ) -> LearningCycleResult | None:
        try:
            result = await self._learner.trigger_learning_cycle(
                tenant_id, force_training=force, mode=mode, reason=reason
            )
        except Exception as error:  # the schedule needs a result, and the message may quote texts
            logger.error("the cycle of %r cannot run: %s", tenant_id, without_message(error))
            return None
        logger.info("cycle of %r: %s (%s)", tenant_id, result.status, reason)
        return result

    async def drain(self) -> None:
        """Wait until no cycle is queued."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def stop(self, *, grace_s: float) -> None:
        """Wait for the running cycle; after `grace_s` cancel it: it is journalled as failed."""
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
