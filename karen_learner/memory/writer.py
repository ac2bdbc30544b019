"""Group commit: many callers wait for one transaction instead of each for its own.

A commit costs the same for one row as for hundreds. One task takes what has queued up while the last
batch was being written, writes it at once, and only then tells the callers. See D. DeWitt et al.,
"Implementation techniques for main memory database systems" (SIGMOD 1984), section 5.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from karen_learner.errors import LearnerClosed

Item = TypeVar("Item")
Result = TypeVar("Result")

Commit = Callable[[Sequence[Item]], Awaitable[Sequence["Result | Exception"]]]
"""Writes items durably; answers for each with its result, or with the error that it alone met."""


class GroupCommit(Generic[Item, Result]):
    """Callers `submit`, one task commits. The queue is bounded: callers wait while it is full.

    A caller that is cancelled no longer waits; its item may be written all the same.
    """

    def __init__(self, commit: Commit[Item, Result], *, queue_size: int, max_batch: int) -> None:
        self._commit = commit
        self._queue_size = queue_size
        self._max_batch = max_batch
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._room = asyncio.Event()
        self._arrived = asyncio.Event()
        self._callers = 0
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to commit. Call it inside a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="karen_learner group commit")

    async def submit(self, item: Item) -> Result:
        """The result of the item once it is durable. Raises its error, or LearnerClosed."""
        if self._closed or self._task is None:
            raise LearnerClosed("the store's writer is not running: it was closed, or never started")
        self._callers += 1
        try:
            while len(self._queue) >= self._queue_size:
                self._room.clear()
                await self._room.wait()
            done: asyncio.Future[Result] = self._task.get_loop().create_future()
            self._queue.append((item, done))
            self._arrived.set()
            return await done
        finally:
            self._leave()

    async def close(self) -> None:
        """Write what is queued, then stop. Idempotent."""
        self._closed = True
        self._arrived.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _leave(self) -> None:
        self._callers -= 1
        if self._closed:  # it may have been the last that the task waits for
            self._arrived.set()

    async def _run(self) -> None:
        while self._queue or self._callers or not self._closed:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                size = min(self._max_batch, len(self._queue))
                batch = [self._queue.popleft() for _ in range(size)]
                self._room.set()
                await self._settle(batch)

    async def _settle(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        outcomes = await self._outcomes([item for item, _ in batch])
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            if done.done():  # its caller was cancelled
                continue
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)

    async def _outcomes(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return await self._commit(items)
        except Exception as error:  # every caller must hear of it, whatever it is
            return [error] * len(items)
