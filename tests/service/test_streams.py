"""Streams of events: many at once, and clients that never read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from karen_learner.events import EventBus, StageStarted
from karen_learner.service.feed import MAX_WAITING_EVENTS, PING, EventFeed
from karen_learner.service.streams import WakeQueue
from tests.conftest import ACME

PATIENCE_S = 60
SCOPE = {
    "type": "http", "method": "GET", "path": f"/v1/tenants/{ACME}/events", "query_string": b"",
    "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1),
}  # fmt: skip
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


async def unread(message: dict[str, Any]) -> None:
    """A client that takes no part of a body."""
    if message["type"] == "http.response.body":
        await never()


def into(body: bytearray) -> Send:
    async def send(message: dict[str, Any]) -> None:
        body.extend(message.get("body", b""))

    return send


def started(cycle_id: str) -> StageStarted:
    return StageStarted(tenant_id=ACME, cycle_id=cycle_id, stage="training")


async def yes() -> bool:
    return True


async def test_300_streams_get_an_event_beside_one_that_is_never_read_and_all_end(app: FastAPI):
    parts = app.state.parts
    bodies = [bytearray() for _ in range(300)]
    streams = [asyncio.create_task(app(dict(SCOPE), never, into(body))) for body in bodies]
    stuck = asyncio.create_task(app(dict(SCOPE), never, unread))
    async with asyncio.timeout(PATIENCE_S):
        while not all(b"c1" in body for body in bodies):
            parts.learner.events.publish(started("c1"))
            await asyncio.sleep(0.05)
        assert parts.streams == 301
        parts.stopping.set()
        await asyncio.gather(*streams)
        stuck.cancel()
        await asyncio.wait({stuck})
    assert parts.streams == 0


async def test_an_event_is_encoded_once_and_a_slow_stream_keeps_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
):
    encoded: list[str] = []

    def counted(event: StageStarted) -> dict[str, Any]:
        encoded.append(event.cycle_id)
        return {"cycle_id": event.cycle_id}

    monkeypatch.setattr(StageStarted, "to_dict", counted)
    bus, stopping = EventBus(), asyncio.Event()
    feed = EventFeed(bus, stopping, home=Path("/home"))
    streams = [feed.of(ACME, may_go_on=yes, check_s=0.01) for _ in range(2)]
    assert [await anext(stream) for stream in streams] == [PING, PING]
    names = [f"c{number}" for number in range(MAX_WAITING_EVENTS + 10)]
    for name in names:
        bus.publish(started(name))
        await bus.drain()
    first, second = [await anext(stream) for stream in streams]
    assert encoded == names
    assert first == second
    assert first.count(b"data: ") == MAX_WAITING_EVENTS
    assert b'"c999"' in first
    stopping.set()
    assert [one for stream in streams async for one in stream] == []


async def test_streams_of_a_former_reader_begin_again():
    bus, stopping = EventBus(), asyncio.Event()
    feed = EventFeed(bus, stopping, home=Path("/home"))
    for name in ("c1", "c2"):
        stream = feed.of(ACME, may_go_on=yes, check_s=0.01)
        assert await anext(stream) == PING
        bus.publish(started(name))
        await bus.drain()
        assert name.encode() in await anext(stream)
        await stream.aclose()


async def test_a_queue_sets_each_event_once_in_order_and_not_all_at_once():
    queue = WakeQueue(every_s=0.0)
    first, second = asyncio.Event(), asyncio.Event()
    for one in (first, second, first):
        queue.add(one)
    await first.wait()
    assert not second.is_set()
    first.clear()
    await second.wait()
    assert not first.is_set()
