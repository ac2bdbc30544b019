"""Cron schedules of cycles and reports. The rows of the store are the truth; APScheduler wakes the service.

A service claims each run by a lease, and writes its row first. So two services never run it twice. Times that
passed without a service are caught up by one run. A failed run is repeated after 1, 4 and 24 hours; then an
alert is raised, and the expression decides again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger

from karen_learner.autonomy.cron import next_time, read_expression, read_zone
from karen_learner.autonomy.parts import AlertSink, ScheduledRuns
from karen_learner.contracts import MemoryStore
from karen_learner.memory import owner_of
from karen_learner.records import Alert, check_name
from karen_learner.records.triggers import RunStatus, Schedule, TriggeredMode

logger = logging.getLogger(__name__)

RETRIES_H = (1.0, 4.0, 24.0)
"""Hours until the first, second and third repetition of a failed run."""
CLOCK_STEP = timedelta(days=1)
"""A clock that is set back by less repeats no run."""
LEASE = "schedule"
LEASE_TTL = timedelta(minutes=2)
HEARTBEAT = timedelta(hours=1)
"""Time between two heartbeats of a row."""
MAX_MISSED = 1_000
FULL = "full_cron"
"""The schedule whose cycles are full."""


class Scheduler:
    """Runs the schedules of one job for all tenants. A part of the service.

    `expressions` gives each tenant schedules by name, "" none; `add` makes others. `runs` begins what is due.
    `on_due` is awaited at the time of the next run, between two ticks. Raises InvalidInput for unusable
    expressions.
    """

    def __init__(
        self,
        store: MemoryStore,
        runs: ScheduledRuns,
        expressions: Mapping[str, str],
        *,
        zone: str = "UTC",
        tenants: Sequence[str] = (),
        on_alert: AlertSink | None = None,
        on_due: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._runs = runs
        self._tenants = tenants
        self._on_alert = on_alert
        self._on_due = on_due
        self._zone = read_zone(zone).key
        self._expressions = {name: read_expression(one) if one else None for name, one in expressions.items()}
        self._alarm: AsyncIOScheduler | None = None
        self._is_first_tick = True
        self._ended: list[tuple[Schedule, RunStatus]] = []

    async def start(self) -> None:
        """Start the alarm clock. Idempotent."""
        if self._alarm is None and self._on_due is not None:
            self._alarm = AsyncIOScheduler(timezone="UTC")
            self._alarm.start()

    async def stop(self) -> None:
        """End the alarm clock. Idempotent."""
        if self._alarm is not None:
            self._alarm.shutdown(wait=False)
            self._alarm = None

    async def add(
        self,
        tenant_id: str,
        name: str,
        expression: str,
        now: datetime,
        *,
        zone: str = "UTC",
        mode: TriggeredMode = "auto",
    ) -> Schedule:
        """Store a schedule, in place of one with its name. Raises InvalidInput."""
        schedule = Schedule(
            tenant_id=tenant_id,
            name=check_name(name, "the name of a schedule"),
            expression=read_expression(expression),
            zone=read_zone(zone).key,
            job=self._runs.job,
            mode=mode,
            next_run=next_time(expression, now, zone=zone),
        )
        await self._store.save_schedule(tenant_id, schedule)
        return schedule

    async def tick(self, now: datetime) -> None:
        """Write the results of ended runs, queue the runs that are due, and set the alarm clock."""
        await self.record_results(now)
        if self._is_first_tick:
            self._is_first_tick = False
            await self._end_interrupted(now)
        await self._apply_settings(now)
        for known in await self._own():
            schedule = await self._set_back(known, now)
            if schedule.next_run <= now:
                await self._begin(schedule, now)
            elif schedule.heartbeat is None or now - schedule.heartbeat >= HEARTBEAT:
                await self._save(schedule, heartbeat=now)
        await self._set_alarm()

    async def _set_back(self, schedule: Schedule, now: datetime) -> Schedule:
        """After the clock was set back, the next run follows from the expression again."""
        known = [time for time in (schedule.last_run, schedule.heartbeat) if time is not None]
        if not known or now >= max(known) - CLOCK_STEP:
            return schedule
        logger.warning("the clock was set back by more than %s", CLOCK_STEP)
        next_run = next_time(schedule.expression, now, zone=schedule.zone)
        last_run = min(schedule.last_run, now) if schedule.last_run is not None else None
        return await self._save(schedule, next_run=next_run, last_run=last_run, heartbeat=now)

    async def _own(self) -> list[Schedule]:
        return [
            one
            for one in await self._store.schedules()
            if one.job == self._runs.job and (not self._tenants or one.tenant_id in self._tenants)
        ]

    async def _apply_settings(self, now: datetime) -> None:
        """Make the rows of the settings: new ones, changed ones, and none for an empty expression."""
        rows = {(one.tenant_id, one.name): one for one in await self._own()}
        for tenant_id in self._tenants or await self._store.tenants():
            for name, expression in self._expressions.items():
                row = rows.get((tenant_id, name))
                if expression is None:
                    if row is not None:
                        await self._store.remove_schedule(tenant_id, name)
                elif row is None or (row.expression, row.zone) != (expression, self._zone):
                    mode: TriggeredMode = "full" if name == FULL else "auto"
                    await self.add(tenant_id, name, expression, now, zone=self._zone, mode=mode)

    async def _begin(self, schedule: Schedule, now: datetime) -> None:
        """Claim a due run: the process that moves the row to its next time runs it."""
        owner = owner_of(os.getpid())
        lease = await self._store.acquire_lease(schedule.tenant_id, owner, name=LEASE, ttl=LEASE_TTL)
        if lease is None:
            return
        try:
            present = next((one for one in await self._own() if _same(one, schedule)), None)
            if present is None or present.next_run != schedule.next_run:
                return
            if not self._runs.may_begin(present, now):
                return  # the next tick tries again
            missed = missed_times(present, now)
            claimed = await self._save(
                present,
                next_run=next_time(present.expression, now, zone=present.zone),
                last_run=now,
                last_status="running",
                heartbeat=now,
                missed=present.missed + missed,
            )
        finally:
            await self._store.release_lease(lease)
        self._runs.begin(claimed, lambda status: self._ended.append((claimed, status)))

    async def record_results(self, now: datetime) -> None:
        """Write the results of ended runs: retries and alerts follow failures."""
        while self._ended:
            claimed, status = self._ended[0]
            present = next((one for one in await self._own() if _same(one, claimed)), None)
            if present is not None:
                await self._write_result(present, status, now)
            self._ended.pop(0)

    async def _end_interrupted(self, now: datetime) -> None:
        """Count the runs that a former service did not end as failed."""
        for schedule in await self._own():
            if schedule.last_status == "running":
                await self._write_result(schedule, "failed", now)

    async def _write_result(self, schedule: Schedule, status: str, now: datetime) -> None:
        if status != "failed":
            await self._save(schedule, last_status=status, failures=0)
            return
        failures = schedule.failures + 1
        changes: dict[str, object] = {"last_status": status, "failures": failures}
        if failures <= len(RETRIES_H):
            retry = now + timedelta(hours=RETRIES_H[failures - 1])
            changes["next_run"] = min(schedule.next_run, retry)
        elif self._on_alert is not None:
            message = f"the schedule {schedule.name!r} has failed {failures} times in a row"
            detail = {"schedule": schedule.name, "failures": failures}
            self._on_alert(
                schedule.tenant_id,
                Alert(level="critical", reading="schedule", message=message, details=detail, at=now),
            )
        await self._save(schedule, **changes)

    async def _save(self, schedule: Schedule, **changes: object) -> Schedule:
        changed = schedule.model_copy(update=changes)
        await self._store.save_schedule(schedule.tenant_id, changed)
        return changed

    async def _set_alarm(self) -> None:
        """Wake the service at the time of the next run, if that is before the next tick."""
        own = await self._own()
        if self._alarm is None or self._on_due is None or not own:
            return
        self._alarm.add_job(
            self._on_due,
            DateTrigger(min(one.next_run for one in own)),
            id="next_run",
            replace_existing=True,
            misfire_grace_time=None,
            coalesce=True,
        )


def missed_times(schedule: Schedule, now: datetime) -> int:
    """The number of times of the expression after the due one that have passed, too; at most 1,000."""
    time, count = schedule.next_run, 0
    while count < MAX_MISSED and (time := next_time(schedule.expression, time, zone=schedule.zone)) <= now:
        count += 1
    return count


def _same(one: Schedule, other: Schedule) -> bool:
    return (one.tenant_id, one.name) == (other.tenant_id, other.name)
