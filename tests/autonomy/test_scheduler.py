"""Cron expressions at the edges of daylight saving, and schedules of a store under a fast clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from karen_learner.autonomy.cron import next_time, read_expression
from karen_learner.autonomy.parts import CycleQueue
from karen_learner.autonomy.scheduler import FULL, Scheduler
from karen_learner.contracts import MemoryStore
from karen_learner.errors import InvalidInput, TrainingError
from karen_learner.memory import open_store
from karen_learner.records import Alert, LearningCycleResult
from karen_learner.records.triggers import Schedule
from karen_learner.settings import load_settings
from tests.autonomy.conftest import FastClock

HOUR = 3600.0
DAY = 24 * HOUR


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[misc, arg-type]


# Expressions ------------------------------------------------------------------------------------


def test_a_time_that_spring_skips_runs_once_after_the_change() -> None:
    """In Berlin 2026-03-29, 02:30 does not exist: 02:00 is 03:00."""
    first = next_time("30 2 * * *", utc(2026, 3, 28, 12), zone="Europe/Berlin")
    assert first == utc(2026, 3, 29, 1, 0)  # 03:00 local
    assert next_time("30 2 * * *", first, zone="Europe/Berlin") == utc(2026, 3, 30, 0, 30)


def test_a_time_that_autumn_shows_twice_runs_once() -> None:
    """In Berlin 2026-10-25, 02:30 is twice."""
    first = next_time("30 2 * * *", utc(2026, 10, 24, 12), zone="Europe/Berlin")
    assert first in (utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30))
    assert next_time("30 2 * * *", first, zone="Europe/Berlin") == utc(2026, 10, 26, 1, 30)


def test_hourly_runs_go_on_through_both_changes() -> None:
    for day in (utc(2026, 3, 29), utc(2026, 10, 25)):
        time = day - timedelta(minutes=1)
        for hour in range(6):
            time = next_time("0 * * * *", time, zone="Europe/Berlin")
            assert time == day + timedelta(hours=hour)


@pytest.mark.parametrize(
    "bad", ["", "0 3 * *", "0 3 * * * *", "61 3 * * *", "0 0 31 2 *", "@daily", "a b c d e"]
)
def test_a_useless_expression_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput):
        read_expression(bad)


# Schedules --------------------------------------------------------------------------------------


class Trainer:
    """A learner that counts its cycles. `status` is their result, or an error."""

    def __init__(self, store: MemoryStore, clock: FastClock) -> None:
        self.store, self.clock = store, clock
        self.settings = load_settings()
        self.calls: list[tuple[datetime, str, str]] = []
        self.status: str = "deployed"

    async def trigger_learning_cycle(self, tenant_id: str, **options: Any) -> LearningCycleResult:
        self.calls.append((self.clock(), tenant_id, options["mode"]))
        if self.status == "error":
            raise TrainingError("broken")
        return LearningCycleResult(
            cycle_id="c", tenant_id=tenant_id, mode="full", reason=options["reason"], status=self.status,
            started_at=self.clock(),
        )  # fmt: skip


@pytest.fixture
async def trainer(clock: FastClock) -> AsyncIterator[Trainer]:
    async with open_store(":memory:", load_settings().store, clock=clock) as store:
        yield Trainer(store, clock)


def scheduler(trainer: Trainer, *, cron: str = "", full_cron: str = "", **options: Any) -> Scheduler:
    expressions = {"cron": cron, FULL: full_cron}
    options.setdefault("tenants", ("acme",))
    return Scheduler(trainer.store, CycleQueue(trainer), expressions, **options)  # type: ignore[arg-type]


async def tick(made: Scheduler, clock: FastClock, *, hours: float = 0.0) -> None:
    clock.move(hours * HOUR)
    await made.tick(clock())
    await made._runs.drain()
    await made.record_results(clock())


async def rows(trainer: Trainer) -> list[Schedule]:
    return list(await trainer.store.schedules())


async def test_schedules_of_the_settings_run_at_their_times(trainer: Trainer, clock: FastClock) -> None:
    made = scheduler(trainer, cron="0 3 * * *", full_cron="0 5 * * sun")
    for _ in range(24 * 7):
        await tick(made, clock, hours=1)
    assert [at.hour for at, _, mode in trainer.calls if mode == "auto"] == [3] * 7
    assert [at.strftime("%a %H") for at, _, mode in trainer.calls if mode == "full"] == ["Sun 05"]
    assert all(row.last_status == "deployed" and row.healthy for row in await rows(trainer))

    changed = scheduler(trainer, cron="0 4 * * *")
    await tick(changed, clock)
    (row,) = await rows(trainer)
    assert (row.name, row.expression, row.next_run.hour) == ("cron", "0 4 * * *", 4)


async def test_a_clock_that_jumps_ahead_and_back_leaves_a_schedule_that_runs(
    trainer: Trainer, clock: FastClock
) -> None:
    made = scheduler(trainer, cron="0 3 * * *")
    await tick(made, clock)
    await tick(made, clock, hours=24 * 4_000)
    await tick(made, clock, hours=-24 * 4_000)
    (row,) = await rows(trainer)
    assert timedelta(0) < row.next_run - clock() <= timedelta(days=1)
    runs = len(trainer.calls)
    for _ in range(3):
        await tick(made, clock, hours=24)
    assert len(trainer.calls) == runs + 3


async def test_a_small_step_back_repeats_no_run(trainer: Trainer, clock: FastClock) -> None:
    made = scheduler(trainer, cron="0 3 * * *")
    await tick(made, clock)
    await tick(made, clock, hours=24)
    runs = len(trainer.calls)
    await tick(made, clock, hours=-0.5)
    await tick(made, clock, hours=0.5)
    assert len(trainer.calls) == runs


async def test_missed_times_are_caught_up_by_one_run(trainer: Trainer, clock: FastClock) -> None:
    made = scheduler(trainer, cron="0 3 * * *")
    await tick(made, clock)
    await tick(scheduler(trainer, cron="0 3 * * *"), clock, hours=24 * 5)
    assert len(trainer.calls) == 1
    (row,) = await rows(trainer)
    assert row.missed == 4
    assert row.next_run == clock().replace(hour=3) + timedelta(days=0 if clock().hour < 3 else 1)


async def test_two_services_run_a_schedule_once(trainer: Trainer, clock: FastClock) -> None:
    both = [scheduler(trainer, cron="0 3 * * *") for _ in range(2)]
    for made in both:
        await made.tick(clock())
    clock.move(4 * HOUR)
    for made in both:
        await made.tick(clock())
    for made in both:
        await made._runs.drain()
    assert len(trainer.calls) == 1


async def test_a_failed_run_is_repeated_and_then_an_alert_is_raised(
    trainer: Trainer, clock: FastClock
) -> None:
    alerts: list[Alert] = []
    made = scheduler(trainer, cron="0 3 1 * *", on_alert=lambda tenant, alert: alerts.append(alert))
    await tick(made, clock)
    trainer.status = "error"
    for _ in range(48):
        await tick(made, clock, hours=1)
    times = [at for at, *_ in trainer.calls]
    gaps = [(after - before) / timedelta(hours=1) for before, after in pairwise(times)]
    assert gaps[:3] == [pytest.approx(1, abs=1), pytest.approx(4, abs=1), pytest.approx(24, abs=1)]
    assert len(times) == 4
    assert [alert.reading for alert in alerts] == ["schedule"]
    (row,) = await rows(trainer)
    assert not row.healthy
    trainer.status = "skipped"
    for _ in range(31):
        await tick(made, clock, hours=24)
    (row,) = await rows(trainer)
    assert row.healthy


async def test_a_run_whose_service_died_is_repeated(trainer: Trainer, clock: FastClock) -> None:
    made = scheduler(trainer, cron="0 3 * * *")
    await tick(made, clock)
    clock.move(3 * HOUR)
    await made.tick(clock())
    await made._runs.stop(grace_s=0)  # cancels the run
    (row,) = await rows(trainer)
    assert row.last_status == "running"
    again = scheduler(trainer, cron="0 3 * * *")
    trainer.calls.clear()
    for _ in range(3):
        await tick(again, clock, hours=1)
    assert len(trainer.calls) == 1


async def test_a_clock_that_jumps_back_runs_nothing_twice(trainer: Trainer, clock: FastClock) -> None:
    made = scheduler(trainer, cron="0 3 * * *")
    await tick(made, clock)
    await tick(made, clock, hours=3)
    await tick(made, clock, hours=-2)
    await tick(made, clock, hours=2)
    assert len(trainer.calls) == 1


async def test_the_alarm_clock_wakes_the_service_at_the_time_of_the_next_run(trainer: Trainer) -> None:
    import asyncio

    woken = asyncio.Event()

    async def wake() -> None:
        woken.set()

    made = scheduler(trainer, tenants=("acme",), on_due=wake)
    await made.start()
    trainer.clock.now = datetime.now(timezone.utc) - timedelta(minutes=3)
    await made.add("acme", "mine", "* * * * *", trainer.clock())
    await made._set_alarm()
    await asyncio.wait_for(woken.wait(), 30)
    await made.stop()
    await made.stop()
