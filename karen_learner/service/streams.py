"""Wakes open streams of server-sent events one after another, so that other requests wait for few of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

WOKEN_EVERY_S = 0.005
ALL_WOKEN_WITHIN_S = 1.0
"""More than 200 streams are woken at shorter intervals: a rollback must be seen within two seconds."""


class WakeQueue:
    """Sets events in order, `every_s` apart, and all of them within about `within_s`. Each is in it once.

    A stream whose event waits here collects its changes, and then sends them together.
    """

    def __init__(self, *, every_s: float = WOKEN_EVERY_S, within_s: float = ALL_WOKEN_WITHIN_S) -> None:
        self._every_s = every_s
        self._within_s = within_s
        self._waiting: dict[asyncio.Event, None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, woken: asyncio.Event) -> None:
        """Set an event after those that wait."""
        if woken.is_set():  # its client is slow
            return
        self._waiting.setdefault(woken)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        longest = 0
        while self._waiting:
            longest = max(longest, len(self._waiting))
            woken = next(iter(self._waiting))
            del self._waiting[woken]
            woken.set()
            await asyncio.sleep(min(self._every_s, self._within_s / longest))


async def sending_times(
    woken: asyncio.Event,
    queue: WakeQueue,
    stopping: asyncio.Event,
    *,
    may_go_on: Callable[[], Awaitable[bool]],
    check_s: float | None,
) -> AsyncGenerator[None, None]:
    """Yields when a stream may send: after its event is set, and after `check_s` seconds without that.

    Ends when the service stops, or `may_go_on` is false. It is asked each time.
    """
    ending = asyncio.create_task(stopping.wait())
    ending.add_done_callback(lambda _: woken.set())
    try:
        while True:
            try:
                async with asyncio.timeout(check_s):
                    await woken.wait()
            except TimeoutError:
                queue.add(woken)  # streams that were opened together are not checked together
                await woken.wait()
            woken.clear()  # before the checks: a stop during one of them sets it again
            if stopping.is_set() or not await may_go_on():
                return
            yield
    finally:
        ending.cancel()
