"""Alerts, rollbacks and failed cycles become notifications."""

from __future__ import annotations

import asyncio
from datetime import datetime

from karen_learner.autonomy.notify_part import NotifyPart
from karen_learner.events import CycleFinished, EventBus, ModelRolledBack
from karen_learner.records import Alert, LearningCycleResult
from karen_learner.records.notifications import Notification
from tests.autonomy.conftest import FastClock


class Recording:
    """A notifier whose deliveries hang."""

    def __init__(self) -> None:
        self.told: list[Notification] = []
        self.deliveries = 0

    async def notify(self, new: Notification, now: datetime) -> int:
        self.told.append(new)
        return 1

    async def tick(self, now: datetime) -> None:
        self.deliveries += 1
        await asyncio.Event().wait()


def finished(status: str, clock: FastClock) -> CycleFinished:
    result = LearningCycleResult(
        cycle_id="c", tenant_id="acme", mode="full", reason=None, status=status, started_at=clock()
    )
    return CycleFinished(tenant_id="acme", result=result)


async def test_a_hanging_target_delays_no_tick_and_nothing_is_lost(clock: FastClock) -> None:
    notifier, events = Recording(), EventBus()
    part = NotifyPart(notifier, events, clock=clock)  # type: ignore[arg-type]
    await part.start()
    part.alert("acme", Alert(level="critical", reading="schedule", message="failed 4 times", at=clock()))
    await part.tick(clock())
    events.publish(ModelRolledBack(tenant_id="acme", version="v1", previous_version="v2"))
    await events.drain()
    await part.tick(clock())
    assert notifier.deliveries == 1
    await part.stop()
    await part.stop()
    assert [one.topic for one in notifier.told] == ["schedule/acme", "rollback/acme"]
    assert notifier.told[0].severity == "critical"
    await events.close()


async def test_many_failed_cycles_are_a_problem_until_they_end(clock: FastClock) -> None:
    notifier, events = Recording(), EventBus()
    part = NotifyPart(notifier, events, clock=clock)  # type: ignore[arg-type]
    await part.start()
    for status in ("deployed", "failed", "rejected", "skipped", *["deployed"] * 9):
        events.publish(finished(status, clock))
    await events.drain()
    await part.stop()
    assert [(one.kind, one.facts["cycles"]) for one in notifier.told] == [("problem", 3), ("recovery", 4)]
    await events.close()
