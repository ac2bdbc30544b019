"""The autonomous service on a home with a model, under a fast clock."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from karen_learner.autonomy.parts import Part
from karen_learner.autonomy.service import AutonomousService
from karen_learner.autonomy.triggers.part import cycle_request, last_tick, request_cycle
from karen_learner.errors import StoreLocked
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.records import UserFeedback
from tests.autonomy.conftest import FastClock
from tests.conftest import ACME, TINY

CONDITION = {
    "any": ["manual", {"all": ["no_cycle", "cooled_down", {"any": [{"new_data": {"samples": 12}}]}]}]
}


@pytest.fixture
def now() -> FastClock:
    return FastClock(datetime.now(timezone.utc) + timedelta(days=1))


@pytest.fixture
async def learner(taught_home: Path, now: FastClock) -> AsyncIterator[AutonomousLearner]:
    overrides = TINY | {"triggers.condition": CONDITION, "triggers.tick_s": 0.05}
    async with create_autonomous_learner(taught_home, overrides=overrides, clock=now) as made:
        yield made


async def correct(learner: AutonomousLearner, count: int, *, start: int = 0) -> None:
    for number in range(start, start + count):
        await learner.collect_conversation_metadata(
            ACME, f"what is my balance number {number}", "It is 12.", f"user {number}",
            UserFeedback(corrected_intent="balance"),
        )  # fmt: skip


async def test_new_data_begins_a_cycle_and_the_result_is_kept(
    learner: AutonomousLearner, now: FastClock
) -> None:
    async with AutonomousService(learner, clock=now) as service:
        await service.tick()
        tick = await last_tick(learner.store, ACME)
        assert tick is not None
        assert not tick.fires
        assert "0 new samples" in str([leaf.why for leaf in tick.root.leaves()])

        await correct(learner, 15)
        await service.tick()
        tick = await last_tick(learner.store, ACME)
        assert tick is not None
        assert (tick.fires, tick.started, tick.mode) == (True, True, "auto")
        await service.queue.drain()
        (newest, *_) = await learner.history(ACME)
        assert newest.reason == "new_data: 15 new samples, needed 12"
        assert newest.status in ("deployed", "rejected")
        assert newest.started_at == now()

        await correct(learner, 15, start=50)
        await service.tick()
        tick = await last_tick(learner.store, ACME)
        assert tick is not None
        assert not tick.fires
        assert "cooled_down" in next(child.why for child in tick.root.children if child.name == "all")


async def test_a_request_of_a_person_runs_at_the_next_tick(
    learner: AutonomousLearner, now: FastClock
) -> None:
    await correct(learner, 4)
    await request_cycle(learner.store, ACME, "release day", mode="full", clock=now)
    async with AutonomousService(learner, clock=now) as service:
        await service.tick()
        await service.queue.drain()
        await service.tick()
        await service.queue.drain()
    assert await cycle_request(learner.store, ACME) is None
    results = [one for one in await learner.history(ACME) if one.reason == "release day"]
    assert [one.mode for one in results] == ["full"]


async def test_a_request_survives_a_service_that_dies_before_its_cycle_ends(
    learner: AutonomousLearner, now: FastClock
) -> None:
    await correct(learner, 4)
    wanted = await request_cycle(learner.store, ACME, "release day", mode="full", clock=now)
    async with AutonomousService(learner, clock=now) as service:
        await service.tick()
        assert service.queue.is_queued(ACME)
        await service.queue.stop(grace_s=0.0)
    assert await cycle_request(learner.store, ACME) == wanted
    async with AutonomousService(learner, clock=now) as service:
        await service.tick()
        await service.queue.drain()
    assert await cycle_request(learner.store, ACME) is None


async def test_a_newer_request_stays_after_the_cycle_of_an_older_one(
    learner: AutonomousLearner, now: FastClock
) -> None:
    await correct(learner, 4)
    await request_cycle(learner.store, ACME, "first", clock=now)
    async with AutonomousService(learner, clock=now) as service:
        await service.tick()
        newer = await request_cycle(learner.store, ACME, "second", mode="full", clock=now)
        await service.queue.drain()
    assert await cycle_request(learner.store, ACME) == newer


async def test_a_preview_begins_and_stores_nothing(learner: AutonomousLearner, now: FastClock) -> None:
    await correct(learner, 15)
    (tick,) = await AutonomousService(learner, clock=now).preview()
    assert tick.fires
    assert not tick.started
    assert await last_tick(learner.store, ACME) is None
    assert len(await learner.history(ACME)) == 1


async def test_a_second_service_is_refused_until_the_first_one_ends(learner: AutonomousLearner) -> None:
    async with AutonomousService(learner):
        with pytest.raises(StoreLocked, match="another autonomous service runs on this home"):
            async with AutonomousService(learner):
                pass
    async with AutonomousService(learner):
        pass


class Counting(Part):
    """A part that fails at every tick."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def start(self) -> None:
        self.log.append("start")

    async def stop(self) -> None:
        self.log.append("stop")

    async def tick(self, now: datetime) -> None:
        self.log.append("tick")
        raise ZeroDivisionError


async def test_a_failing_part_ends_no_other_and_a_signal_stops_all(learner: AutonomousLearner) -> None:
    log: list[str] = []
    others: list[str] = []
    service = AutonomousService(learner, parts=[lambda _: Counting(log), lambda _: Counting(others)])
    running = asyncio.create_task(service.run())
    while len(others) < 4:
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 60)
    assert log[0] == others[0] == "start"
    assert log[-1] == others[-1] == "stop"
    assert set(log[1:-1]) == {"tick"}


async def test_an_unreadable_row_of_a_tenant_holds_no_other_tenant(
    learner: AutonomousLearner, now: FastClock, caplog: pytest.LogCaptureFixture
) -> None:
    await learner.store.set_service_state("broken", "last_tick", {"unknown": 1})
    async with AutonomousService(learner, tenants=("broken", ACME), clock=now) as service:
        await service.tick()
    assert await last_tick(learner.store, ACME) is not None
    assert "the triggers of 'broken' failed" in caplog.text


async def test_one_tick_waits_for_its_cycle(learner: AutonomousLearner, now: FastClock) -> None:
    await correct(learner, 15)
    await AutonomousService(learner, clock=now, tenants=[ACME]).run(once=True)
    (newest, *_) = await learner.history(ACME)
    assert newest.status in ("deployed", "rejected")


async def test_cycles_follow_daily_data_through_restarts(learner: AutonomousLearner, now: FastClock) -> None:
    """One cycle a day."""
    count = 0
    for _ in range(2):
        async with AutonomousService(learner, clock=now) as service:  # a restart each few days
            for hour in range(0, 48, 12):
                now.move(12 * 3600)
                if hour % 24 == 0:
                    await correct(learner, 12, start=count)
                    count += 12
                await service.tick()
                await service.queue.drain()
    cycles = [one for one in await learner.history(ACME, limit=100) if one.status != "skipped"]
    assert 3 <= len(cycles) <= 5
    states: Any = await last_tick(learner.store, ACME)
    assert states.at == now()
