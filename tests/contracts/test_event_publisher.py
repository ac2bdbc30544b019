"""Contract of `EventPublisher`: publishing never waits and never raises for a subscriber."""

import asyncio
from collections.abc import Callable

import pytest

from karen_learner.contracts import EventPublisher
from karen_learner.events import Event, EventBus, Subscriber, TurnCollected

Published = tuple[EventPublisher, Callable[[Subscriber], object], Callable[[], object]]


def event(name: str) -> Event:
    return TurnCollected(tenant_id="acme", turn_id=name, degraded=False)


def event_bus() -> Published:
    bus = EventBus()
    return bus, bus.subscribe, bus.drain


@pytest.fixture(params=[event_bus])
def implementation(request: pytest.FixtureRequest) -> Published:
    """A publisher, its method to subscribe, and its method to wait for deliveries."""
    made: Published = request.param()
    return made


async def test_every_event_is_delivered_in_order(implementation: Published) -> None:
    publisher, subscribe, drain = implementation
    received: list[Event] = []
    subscribe(received.append)
    events = [event(name) for name in "abc"]
    for one in events:
        publisher.publish(one)
    await drain()  # type: ignore[misc]
    assert received == events


async def test_a_slow_or_failing_subscriber_does_not_affect_the_publisher(
    implementation: Published,
) -> None:
    publisher, subscribe, _ = implementation
    released = asyncio.Event()
    received: list[Event] = []

    def fails(_event: Event) -> None:
        raise RuntimeError("a bug")

    async def waits(_event: Event) -> None:
        await released.wait()

    subscribe(fails)
    subscribe(waits)
    subscribe(received.append)
    events = [event(name) for name in "abc"]
    for one in events:
        publisher.publish(one)
    while len(received) < len(events):
        await asyncio.sleep(0)
    assert received == events
    released.set()


async def test_an_event_without_subscribers_does_not_reach_later_ones(implementation: Published) -> None:
    publisher, subscribe, drain = implementation
    received: list[Event] = []
    publisher.publish(event("a"))
    subscribe(received.append)
    later = event("b")
    publisher.publish(later)
    await drain()  # type: ignore[misc]
    assert received == [later]
