"""The part of the autonomous service that makes the reports of schedules, and archives old ones."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from karen_learner.autonomy.cron import last_time
from karen_learner.autonomy.parts import AlertSink, OnEnd, ServedLearner
from karen_learner.autonomy.scheduler import Scheduler
from karen_learner.errors import KarenLearnerError, without_message
from karen_learner.records.period_reports import ReportPeriod, StoredReport
from karen_learner.records.triggers import Schedule, ScheduledJob
from karen_learner.reports.making import PERIODS
from karen_learner.reports.manager import ReportManager

logger = logging.getLogger(__name__)

LONGEST_DEFERRAL = timedelta(hours=6)
GRACE_S = 30.0
"""Seconds that running reports have to end after a request to stop."""
ARCHIVE_EVERY = timedelta(days=1)


class ReportingLearner(ServedLearner, Protocol):
    """The part of a learner that makes reports."""

    reports: ReportManager

    async def report(
        self, tenant_id: str, *, period: ReportPeriod = "weekly", at: datetime | None = None
    ) -> StoredReport: ...


def machine_load() -> float:
    """The load average of the machine by core; 0 where it is unknown."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return 0.0


class ReportPart:
    """Makes the reports of the settings `[reports]`, one after the other. A part of the service.

    A failed report is repeated after 1, 4 and 24 hours, a missed one is made once. Above `reports.max_load`
    a report waits, at most six hours after its time.
    """

    job: ScheduledJob = "report"

    def __init__(
        self,
        learner: ReportingLearner,
        *,
        tenants: Sequence[str] = (),
        on_alert: AlertSink | None = None,
        load: Callable[[], float] = machine_load,
    ) -> None:
        settings = learner.settings.reports
        self._learner = learner
        self._settings = settings
        self._load = load
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._archived: datetime | None = None
        self._now: datetime | None = None
        expressions = {f"{period} report": getattr(settings, f"{period}_cron") for period in PERIODS}
        self._scheduler = Scheduler(
            learner.store, self, expressions, zone=settings.zone, tenants=tenants, on_alert=on_alert
        )

    async def start(self) -> None:
        """Nothing to do: the first tick begins what is due."""

    async def stop(self) -> None:
        """Let running reports end within `GRACE_S`. The next service makes the others again. Idempotent."""
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._now is not None:
            await self._scheduler.record_results(self._now)

    async def tick(self, now: datetime) -> None:
        """Begin the reports that are due, and archive old ones once a day."""
        self._now = now
        await self._scheduler.tick(now)
        if self._archived is None or now - self._archived >= ARCHIVE_EVERY:
            self._archived = now
            await self._learner.reports.archive_old_reports(self._settings.retention_days)

    async def drain(self) -> None:
        """Wait until no report is being made."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    def may_begin(self, schedule: Schedule, now: datetime) -> bool:
        """Whether no report of the tenant is being made, and the load is low or the report is late."""
        if schedule.tenant_id in self._tasks:
            return False
        return self._load() <= self._settings.max_load or now - schedule.next_run >= LONGEST_DEFERRAL

    def begin(self, schedule: Schedule, on_end: OnEnd) -> None:
        """Make the report of a schedule in the background."""
        self._tasks[schedule.tenant_id] = asyncio.create_task(self._make(schedule, on_end))

    async def _make(self, schedule: Schedule, on_end: OnEnd) -> None:
        period: ReportPeriod = schedule.name.removesuffix(" report")  # type: ignore[assignment]
        due = last_time(schedule.expression, schedule.last_run or schedule.next_run, zone=schedule.zone)
        try:
            async with self._one_at_a_time:
                made = await self._learner.report(schedule.tenant_id, period=period, at=due)
            logger.info("the %s of %r is stored: %s", schedule.name, schedule.tenant_id, made.report_id)
            on_end("made")
        except KarenLearnerError as error:
            logger.error("the %s of %r cannot be made: %s", schedule.name, schedule.tenant_id, error)
            on_end("failed")
        except Exception as error:  # the schedule needs a result, and the message may quote texts
            reason = without_message(error)
            logger.error("the %s of %r failed: %s", schedule.name, schedule.tenant_id, reason)
            on_end("failed")
        finally:
            del self._tasks[schedule.tenant_id]
