"""Events of the learner for open streams: each is encoded once for all of them."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from karen_learner.events import Event, EventBus
from karen_learner.service.paths import relative_to_home

MAX_WAITING_EVENTS = 1_000
WOKEN_TOGETHER = 4
WOKEN_EVERY_S = 0.002
"""Other requests wait for the sends of at most WOKEN_TOGETHER streams: about 0.2 ms of the event loop."""
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

    Streams with new events are woken a few at a time. So many streams do not hold up other requests. Beyond
    MAX_WAITING_EVENTS a slow client loses events. Nothing is encoded for a tenant without streams.
    """

    def __init__(self, events: EventBus, stopping: asyncio.Event, *, home: Path) -> None:
        self._events = events
        self._stopping = stopping
        self._home = home
        self._readers: dict[str, set[_Reader]] = {}
        self._end: Callable[[], None] | None = None
        self._has_events = asyncio.Event()

    async def of(
        self, tenant_id: str, *, may_go_on: Callable[[], Awaitable[bool]], check_s: float
    ) -> AsyncIterator[bytes]:
        """Server-sent events until the service stops, or `may_go_on` is false.

        It is asked before new events are sent, and after `check_s` seconds without one.
        """
        reader = _Reader()
        ending = asyncio.create_task(self._stopping.wait())
        ending.add_done_callback(lambda _: reader.woken.set())
        self._readers.setdefault(tenant_id, set()).add(reader)
        if self._end is None:
            self._end = self._begin()
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(check_s):
                        await reader.woken.wait()
                reader.woken.clear()  # before the checks: a stop during one of them sets it again
                if self._stopping.is_set() or not await may_go_on():
                    return
                yield reader.take() or PING
        finally:
            ending.cancel()
            self._leave(tenant_id, reader)

    def _begin(self) -> Callable[[], None]:
        """Receive events until the returned function is called."""
        unsubscribe = self._events.subscribe(self._put)
        waking = asyncio.create_task(self._wake_streams())

        def end() -> None:
            unsubscribe()
            waking.cancel()

        return end

    def _put(self, event: Event) -> None:
        readers = self._readers.get(event.tenant_id)
        if readers:
            values = json.dumps(relative_to_home(event, self._home).to_dict())
            encoded = format_sse_event(data_str=values, event=event.type, id=event.event_id)
            for reader in readers:
                reader.put(encoded)
            self._has_events.set()

    async def _wake_streams(self) -> None:
        while await self._has_events.wait():
            self._has_events.clear()
            waiting = [one for readers in self._readers.values() for one in readers if one.waiting]
            for start in range(0, len(waiting), WOKEN_TOGETHER):
                for one in waiting[start : start + WOKEN_TOGETHER]:
                    one.woken.set()
                await asyncio.sleep(WOKEN_EVERY_S)

    def _leave(self, tenant_id: str, reader: _Reader) -> None:
        readers = self._readers[tenant_id]
        readers.discard(reader)
        if not readers:
            del self._readers[tenant_id]
        if not self._readers and self._end is not None:
            self._end()
            self._end = None
