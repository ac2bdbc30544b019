"""Events of the learner for open streams: each is encoded once for all of them."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from karen_learner.events import Event, EventBus
from karen_learner.service.paths import relative_to_home
from karen_learner.service.streams import WakeQueue, sending_times

MAX_WAITING_EVENTS = 1_000
PING = format_sse_event(comment="ping")
"""A comment, sent to a stream without events so that proxies keep it open."""


class EventStream(StreamingResponse):
    """An answer of encoded events. FastAPI's own class encodes each event for each stream."""

    media_type = "text/event-stream"


@dataclass(eq=False)
class _Reader:
    """The encoded events that one stream has not sent yet."""

    waiting: deque[bytes] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, encoded: bytes) -> None:
        if len(self.waiting) < MAX_WAITING_EVENTS:
            self.waiting.append(encoded)

    def take(self) -> bytes:
        """All waiting events, for one send."""
        encoded = b"".join(self.waiting)
        self.waiting.clear()
        return encoded


class EventFeed:
    """Gives the events of a tenant in this process to its streams. Paths are relative to `home`.

    Streams with new events are woken one after another, and send all events that they have then.
    Beyond MAX_WAITING_EVENTS a slow client loses events. Nothing is encoded for a tenant without streams.
    """

    def __init__(self, events: EventBus, stopping: asyncio.Event, *, home: Path) -> None:
        self._events = events
        self._stopping = stopping
        self._home = home
        self._readers: dict[str, set[_Reader]] = {}
        self._end: Callable[[], None] | None = None
        self._queue = WakeQueue()

    async def of(
        self, tenant_id: str, *, may_go_on: Callable[[], Awaitable[bool]], check_s: float
    ) -> AsyncIterator[bytes]:
        """Server-sent events until the service stops, or `may_go_on` is false.

        It is asked before new events are sent, and after `check_s` seconds without one.
        """
        reader = _Reader()
        self._readers.setdefault(tenant_id, set()).add(reader)
        if self._end is None:
            self._end = self._events.subscribe(self._put)
        times = sending_times(reader.woken, self._queue, self._stopping, may_go_on=may_go_on, check_s=check_s)
        try:
            async with aclosing(times):
                async for _ in times:
                    yield reader.take() or PING
        finally:
            self._leave(tenant_id, reader)

    def _put(self, event: Event) -> None:
        readers = self._readers.get(event.tenant_id)
        if readers:
            values = json.dumps(relative_to_home(event, self._home).to_dict())
            encoded = format_sse_event(data_str=values, event=event.type, id=event.event_id)
            for reader in readers:
                reader.put(encoded)
                self._queue.add(reader.woken)

    def _leave(self, tenant_id: str, reader: _Reader) -> None:
        readers = self._readers[tenant_id]
        readers.discard(reader)
        if not readers:
            del self._readers[tenant_id]
        if not self._readers and self._end is not None:
            self._end()
            self._end = None
