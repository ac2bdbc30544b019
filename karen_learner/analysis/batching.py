"""Natural batching: what arrives while a batch is on its way makes the next batch.

Nothing waits for company when there is none: an idle batcher sends a lone item at once. The busier it
is, the larger its batches become, up to `max_batch`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class MicroBatcher(Generic[T, R]):
    """Gathers concurrent calls of `submit` into calls of `handle`, one at a time and in order.

    `handle` gives one result for each item; what it raises, every caller of that batch gets. A batch
    has at most `max_batch` items that `weigh` at most `max_weight` together (a heavier one goes alone).
    At most `queue_size` items wait; further callers wait before they enter. A caller that is cancelled
    leaves the others unharmed. Use it from one event loop at a time.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch: int,
        queue_size: int,
        weigh: Callable[[T], int],
        max_weight: int,
    ) -> None:
        self._handle = handle
        self._max_batch = max_batch
        self._weigh = weigh
        self._max_weight = max_weight
        self._room = asyncio.Semaphore(queue_size)
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """The result of `handle` for this item."""
        await self._room.acquire()
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            await self._gather()
            while self._queue:
                await self._answer(self._take())
                await self._gather()
        except BaseException:  # the task was cancelled: nobody must wait for it in vain
            for _, future in self._queue:
                future.cancel()
            raise

    async def _gather(self) -> None:
        """Let those who are about to call do so: whoever just got an answer often asks again."""
        seen = -1
        while seen < len(self._queue) < self._max_batch:
            seen = len(self._queue)
            await asyncio.sleep(0)

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        """The next batch: empty if everybody in it was cancelled."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        weight = 0
        while self._queue and len(batch) < self._max_batch:
            item, future = self._queue[0]
            if not future.done():
                weight += self._weigh(item)
                if batch and weight > self._max_weight:
                    break
                batch.append((item, future))
            self._queue.popleft()
            self._room.release()
        return batch

    async def _answer(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        if not batch:
            return
        futures = [future for _, future in batch]
        try:
            results = await self._handle([item for item, _ in batch])
            for future, result in zip(futures, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:
            _fail(futures, error)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _fail(futures: Sequence[asyncio.Future[R]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def batches(
    items: Sequence[T], *, max_batch: int, weigh: Callable[[T], int], max_weight: int
) -> Iterator[Sequence[T]]:
    """Cut what is known beforehand into batches by the same two bounds."""
    start, weight = 0, 0
    for position, item in enumerate(items):
        weight += weigh(item)
        if position > start and (position - start == max_batch or weight > max_weight):
            yield items[start:position]
            start, weight = position, weigh(item)
    if items:
        yield items[start:]
