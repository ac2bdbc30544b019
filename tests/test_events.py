"""The event bus: order, bounded queues, draining, closing, and subscribers that fail."""

import asyncio
import logging

import pytest
from pydantic import ValidationError

from karen_learner.events import CycleStarted, Event, EventBus, FeedbackAdded, TurnCollected


def turn(name: str = "t1") -> TurnCollected:
    return TurnCollected(tenant_id="acme", turn_id=name, degraded=False)


async def never(_event: Event) -> None:
    await asyncio.Event().wait()


def test_events_are_frozen_past_tense_and_utc() -> None:
    event = turn()
    with pytest.raises(ValidationError):
        event.turn_id = "other"  # type: ignore[misc]
    assert event.at.utcoffset() is not None
    assert event.at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    endings = {kind.__name__[-2:] for kind in Event.__subclasses__()}
    assert endings == {"ed", "ck"}  # ...ed, RolledBack


def test_an_event_carries_an_id_a_type_and_a_schema_version() -> None:
    first, second = turn(), turn()
    assert first.event_id != second.event_id
    stored = first.to_dict()
    assert (stored["type"], stored["schema_version"], stored["tenant_id"]) == ("TurnCollected", 1, "acme")
    assert stored["event_id"] == first.event_id


async def test_each_subscriber_receives_events_in_order_of_publication() -> None:
    bus, received = EventBus(), {"slow": [], "quick": []}

    async def slow(event: Event) -> None:
        await asyncio.sleep(0)
        received["slow"].append(event)

    bus.subscribe(slow)
    bus.subscribe(received["quick"].append)
    events = [turn(name) for name in "abc"]
    for event in events:
        bus.publish(event)
    assert received == {"slow": [], "quick": []}
    await bus.drain()
    assert received == {"slow": events, "quick": events}


async def test_a_slow_subscriber_delays_neither_publisher_nor_others() -> None:
    bus, received = EventBus(), []
    bus.subscribe(never)
    bus.subscribe(received.append)
    bus.publish(turn())
    await asyncio.sleep(0)
    assert len(received) == 1
    await bus.close(timeout_s=0.01)


async def test_a_full_queue_drops_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    bus, received = EventBus(), []
    bus.subscribe(received.append, queue_size=2)
    events = [turn(name) for name in "abcd"]
    for event in events:
        bus.publish(event)
    await bus.drain()
    assert received == events[:2]
    assert bus.dropped == 2
    assert len(caplog.records) == 1
    assert "queue is full" in caplog.text


async def test_a_subscriber_receives_the_types_it_subscribed_to() -> None:
    bus, received = EventBus(), []
    bus.subscribe(received.append, to=TurnCollected)
    bus.publish(CycleStarted(tenant_id="acme", cycle_id="c", mode="full", reason=None))
    bus.publish(FeedbackAdded(tenant_id="acme", turn_id="t", is_correction=True))
    bus.publish(turn())
    await bus.drain()
    assert [type(event) for event in received] == [TurnCollected]


async def test_an_error_in_a_subscriber_is_logged_and_delivery_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, received = EventBus(), []

    def fails(event: Event) -> None:
        received.append(event)
        raise RuntimeError("at once")

    async def fails_later(event: Event) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("later")

    for subscriber in (fails, fails_later):
        bus.subscribe(subscriber)
    with caplog.at_level(logging.ERROR):
        bus.publish(turn())
        bus.publish(turn())
        await bus.drain()
    assert len(received) == 2
    assert ["TurnCollected" in record.message for record in caplog.records] == [True] * 4


async def test_unsubscribing_drops_queued_events_and_may_be_repeated() -> None:
    bus, received = EventBus(), []
    end = bus.subscribe(received.append)
    bus.publish(turn())
    end()
    end()
    bus.publish(turn())
    await asyncio.sleep(0)
    await bus.drain()
    assert received == []


async def test_a_subscriber_may_unsubscribe_during_delivery() -> None:
    bus, received = EventBus(), []

    def once(event: Event) -> None:
        received.append(event)
        end()

    end = bus.subscribe(once)
    bus.subscribe(received.append)
    bus.publish(turn())
    bus.publish(turn())
    await bus.drain()
    assert len(received) == 3


async def test_a_subscriber_may_drain_and_close_the_bus() -> None:
    bus, received = EventBus(), []

    async def closes(_event: Event) -> None:
        await bus.drain()
        await bus.close()
        received.append("closed")

    bus.subscribe(closes)
    bus.publish(turn())
    await asyncio.wait_for(bus.drain(), timeout=5)
    assert received == ["closed"]


async def test_closing_delivers_queued_events_and_cancels_a_subscriber_that_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, received = EventBus(), []
    bus.subscribe(received.append)
    bus.subscribe(never)
    bus.publish(turn())
    await bus.close(timeout_s=0.01)
    await bus.close(timeout_s=0.01)
    assert len(received) == 1
    assert "undelivered events are dropped" in caplog.text


async def test_a_closed_bus_delivers_nothing() -> None:
    bus, received = EventBus(), []
    bus.subscribe(received.append)
    await bus.close()
    bus.publish(turn())
    await bus.drain()
    assert received == []
