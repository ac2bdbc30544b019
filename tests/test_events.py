"""The bus: order, and subscribers that fail."""

import asyncio
import logging

import pytest
from pydantic import ValidationError

from karen_learner.events import CycleStarted, Event, EventBus, FeedbackAdded, TurnCollected


def turn(name: str = "t1") -> TurnCollected:
    return TurnCollected(tenant_id="acme", turn_id=name, degraded=False)


def test_events_are_frozen_past_tense_and_utc() -> None:
    event = turn()
    with pytest.raises(ValidationError):
        event.turn_id = "other"  # type: ignore[misc]
    assert event.at.utcoffset() is not None
    assert event.at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    endings = {kind.__name__[-2:] for kind in Event.__subclasses__()}
    assert endings == {"ed", "ck"}  # ...ed, RolledBack


async def test_subscribers_are_told_in_order_and_awaited() -> None:
    bus, told = EventBus(), []

    async def slow(event: Event) -> None:
        await asyncio.sleep(0)
        told.append(("slow", event))

    bus.subscribe(slow)
    bus.subscribe(lambda event: told.append(("quick", event)))
    first, second = turn("a"), turn("b")
    await bus.publish(first)
    await bus.publish(second)
    assert told == [("slow", first), ("quick", first), ("slow", second), ("quick", second)]


async def test_a_subscriber_hears_what_it_asked_for() -> None:
    bus, told = EventBus(), []
    bus.subscribe(told.append, to=TurnCollected)
    await bus.publish(CycleStarted(tenant_id="acme", cycle_id="c", mode="full", reason=None))
    await bus.publish(FeedbackAdded(tenant_id="acme", turn_id="t", is_correction=True))
    await bus.publish(turn())
    assert [type(event) for event in told] == [TurnCollected]


async def test_a_failing_subscriber_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bus, told = EventBus(), []

    def fails(event: Event) -> None:
        raise RuntimeError("at once")

    async def fails_later(event: Event) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("later")

    for subscriber in (fails, fails_later, told.append):
        bus.subscribe(subscriber)
    with caplog.at_level(logging.ERROR):
        await bus.publish(turn())
    assert len(told) == 1
    assert ["TurnCollected" in record.message for record in caplog.records] == [True, True]


async def test_unsubscribing_ends_it_and_may_be_repeated() -> None:
    bus, told = EventBus(), []
    end = bus.subscribe(told.append)
    bus.subscribe(told.append)
    end()
    end()
    await bus.publish(turn())
    assert len(told) == 1


async def test_a_subscriber_may_unsubscribe_while_it_is_told() -> None:
    bus, told = EventBus(), []

    def once(event: Event) -> None:
        told.append(event)
        end()

    end = bus.subscribe(once)
    bus.subscribe(told.append)
    await bus.publish(turn())
    await bus.publish(turn())
    assert len(told) == 3


async def test_cancelling_the_publisher_reaches_it() -> None:
    bus = EventBus()

    async def waits(event: Event) -> None:
        await asyncio.Event().wait()

    bus.subscribe(waits)
    publishing = asyncio.create_task(bus.publish(turn()))
    await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
