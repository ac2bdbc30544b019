"""Concurrent calls: their batches, their threads, and the objects of one event loop or process.

An idle batcher handles a lone item at once. While a batch is handled, new items queue up and form the next
batch. Group commit (DeWitt et al., SIGMOD 1984, section 5) and micro-batched inference both use this.

Tasks, futures and connections of a loop cannot be awaited in another loop. Threads, locks and connections do
not survive `os.fork`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from asyncio_extras import call_in_executor

from karen_learner.errors import LearnerClosed, WrongEventLoop

_REMEDY = "make one in each event loop and process, or use karen_learner.blocking"
CHUNK = 500
"""Values in one `IN (...)` or `VALUES ...` of SQL: far below the limits of both databases on parameters."""
SWITCH_INTERVAL_S = 0.0005
"""Switch interval of threads while a model loads: the default of 5 ms delays the event loop."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Handler = Callable[[Sequence[Item]], Awaitable[Sequence["Result | Exception"]]]
"""Handles a batch. Returns for each item its result, or the error of this item alone."""


class Batcher(Generic[Item, Result]):
    """Collects concurrent calls of `submit` into calls of `handle`, in order and one at a time.

    A batch has at most `max_batch` items. With `weigh`, their total weight is at most `max_weight`; a heavier
    item is a batch by itself. At most `queue_size` items wait; further callers wait until there is space. A
    cancelled caller stops waiting; with `skip_cancelled` its item is dropped, otherwise it is still handled.
    `owner` names the object in the error after `close()`. Use it in one event loop only.
    """

    def __init__(
        self,
        handle: Handler[Item, Result],
        *,
        max_batch: int,
        queue_size: int,
        weigh: Callable[[Item], int] | None = None,
        max_weight: int = 0,
        skip_cancelled: bool = False,
        owner: str = "this object",
    ) -> None:
        self._handle = handle
        self._max_batch = max_batch
        self._queue_size = queue_size
        self._weigh = weigh
        self._max_weight = max_weight
        self._skip_cancelled = skip_cancelled
        self._owner = owner
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._overflow: OrderedDict[asyncio.Future[Result], Item] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._callers = 0
        self._no_callers = asyncio.Event()
        self._closed = False

    async def submit(self, item: Item) -> Result:
        """The result of `handle` for this item. Raises its error, or LearnerClosed after `close()`."""
        if self._closed:
            raise LearnerClosed(f"{self._owner} is closed: open a new one")
        self._callers += 1
        future = self._enqueue(item)
        try:
            return await future
        finally:
            self._overflow.pop(future, None)  # a cancelled caller leaves no item
            self._callers -= 1
            if not self._callers:
                self._no_callers.set()

    async def close(self) -> None:
        """Handle the items of all present callers, and refuse new ones. Idempotent."""
        self._closed = True
        while self._callers:
            self._no_callers.clear()
            await self._no_callers.wait()
        if self._task is not None and not self._task.done():  # it handles items of cancelled callers
            await asyncio.wait([self._task])

    def _enqueue(self, item: Item) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if len(self._queue) < self._queue_size:
            self._queue.append((item, future))
        else:
            self._overflow[future] = item
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            await self._gather()
            while self._queue:
                await self._answer(self._next_batch())
                await self._gather()
        except BaseException:  # the task was cancelled: no caller may wait for it
            for future in (*(future for _, future in self._queue), *self._overflow):
                future.cancel()
            self._queue.clear()
            self._overflow.clear()
            raise

    async def _gather(self) -> None:
        """Yield to the loop while new items arrive: answered callers often submit again at once."""
        seen = -1
        while seen < len(self._queue) < self._max_batch:
            seen = len(self._queue)
            await asyncio.sleep(0)

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """Items from the queue up to the limits; none if all of them were cancelled."""
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        weight = 0
        while self._queue and len(batch) < self._max_batch:
            item, future = self._queue[0]
            if not (self._skip_cancelled and future.done()):
                weight += self._weigh(item) if self._weigh is not None else 0
                if batch and weight > self._max_weight:
                    break
                batch.append((item, future))
            self._queue.popleft()
        self._refill()
        return batch

    def _refill(self) -> None:
        """Fill the queue from the overflow, in order. The overflow is empty unless the queue is full."""
        while self._overflow and len(self._queue) < self._queue_size:
            future, item = self._overflow.popitem(last=False)
            if not future.done():  # else its caller was cancelled
                self._queue.append((item, future))

    async def _answer(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        if not batch:
            return
        try:
            results = await self._handle([item for item, _ in batch])
            if len(results) != len(batch):
                raise ValueError(f"the handler returned {len(results)} results for {len(batch)} items")
        except Exception as error:  # every caller of the batch receives it
            results = [error] * len(batch)
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def cut_into_batches(
    items: Sequence[Item], *, max_batch: int, weigh: Callable[[Item], int], max_weight: int
) -> Iterator[Sequence[Item]]:
    """Cut a sequence into batches by the limits of `Batcher`."""
    start, weight = 0, 0
    for position, item in enumerate(items):
        weight += weigh(item)
        if position > start and (position - start == max_batch or weight > max_weight):
            yield items[start:position]
            start, weight = position, weigh(item)
    if items:
        yield items[start:]


async def pages(items: AsyncIterable[Item] | Iterable[Item], size: int) -> AsyncIterator[list[Item]]:
    """Lists of up to `size` items of a stream. A synchronous iterable is read in a thread: it may be a
    file."""
    if not isinstance(items, AsyncIterable):
        iterator = iter(items)
        while read := await call_in_executor(lambda: list(islice(iterator, size))):
            yield read
        return
    page: list[Item] = []
    async for item in items:
        page.append(item)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


class LoopBinding:
    """The event loop and the process of an object: those of its first use. `owner` names it in errors."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._pid = 0

    def check(self) -> None:
        """Bind at the first call. Raises WrongEventLoop in another loop or process."""
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._pid = weakref.ref(running), os.getpid()
        elif self._pid != os.getpid():
            raise WrongEventLoop(
                f"{self._owner} was started before this process was forked: its threads and connections "
                f"exist only in process {self._pid}; make a new one after the fork"
            )
        elif (bound := self._loop()) is not running:
            has_ended = bound is None or bound.is_closed()
            loop = "an event loop that has ended" if has_ended else "another event loop"
            raise WrongEventLoop(f"{self._owner} belongs to {loop}: {_REMEDY}")

    def release(self) -> None:
        """Forget the loop: the next check binds again. For an object whose start failed."""
        self._loop = None


class Renewable(Protocol):
    """An object with threads or locks."""

    def renew_after_fork(self) -> None:
        """Replace threads and locks. Runs in the child, before any other code of it."""


_renewables: WeakSet[Renewable] = WeakSet()


def renew_in_forked_children(renewable: Renewable) -> None:
    """Call `renew_after_fork` of the object in each later child of this process."""
    _renewables.add(renewable)


def _renew_all() -> None:
    for renewable in list(_renewables):
        renewable.renew_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_renew_all)


def chunks(values: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """`values` in pieces that fit into one SQL statement."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


class ShortSwitchInterval:
    """Shortens the interpreter's switch interval while at least one block runs. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._default_s = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._blocks:
                self._default_s = sys.getswitchinterval()
                sys.setswitchinterval(min(SWITCH_INTERVAL_S, self._default_s))
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    sys.setswitchinterval(self._default_s)


short_switch_interval = ShortSwitchInterval()
