"""An event loop in a background thread, and objects whose methods wait for those of another one in it."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, wait
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from karen_learner.errors import LearnerClosed, WrongEventLoop

P = ParamSpec("P")
T = TypeVar("T")
AsyncT = TypeVar("AsyncT")
TwinT = TypeVar("TwinT", covariant=True)

WAIT_S = 0.5


class Portal:
    """An event loop in a background thread, which starts with the first call. Thread-safe.

    Its thread is a daemon: a program that does not close it can end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._closed = False

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a coroutine function in the loop. Ctrl-C cancels the call.

        Raises its errors, LearnerClosed after or during `close()`, and WrongEventLoop (callbacks, forks).
        """
        self._require_usable()
        call = _Call(functools.partial(function, *args, **kwargs))
        try:
            with self._lock:  # so that `close` follows all calls that have begun
                loop = self._running()
                future = asyncio.run_coroutine_threadsafe(call.run(), loop)
            while not future.done():  # a signal just before a wait does not interrupt it: it must end
                wait([future], timeout=WAIT_S)
            return future.result()
        except CancelledError:
            raise LearnerClosed("this learner was closed during the call") from None
        except BaseException:  # an interrupt may come before `future` is assigned
            with self._lock:
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(call.cancel)
            raise

    def _require_usable(self) -> None:
        if self._thread is not None and self._pid != os.getpid():
            raise WrongEventLoop(
                "this blocking learner was used before the process was forked: make a new one after the fork"
            )
        if threading.current_thread() is self._thread:
            raise WrongEventLoop(
                "a callback calls the blocking learner that waits for it: call it from another thread"
            )

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise LearnerClosed("this learner was closed: create another one")
        if self._loop is None:
            self._pid = os.getpid()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="karen-blocking", daemon=True)
            self._thread.start()
        return self._loop

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Cancel unfinished calls and end the thread. Idempotent. Raises WrongEventLoop as `call`."""
        self._require_usable()
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_finish(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class _Call(Generic[T]):
    """A coroutine function that runs once. It can be cancelled before its task exists."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    async def run(self) -> T:
        self._task = asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        return await self._function()

    def cancel(self) -> None:
        """Call it in the loop of `run`."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()


async def _finish() -> None:
    """Cancel all other tasks, and release what an event loop holds."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


class Blocking(Generic[TwinT]):
    """The synchronous twin of an object: calls of its methods wait for those of the object in a portal.

    Without a `portal` it makes one.
    """

    def __init__(self, twin: TwinT, portal: Portal | None = None) -> None:
        self._twin = twin
        self._portal = portal or Portal()
        self._owns_portal = portal is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread that this object made. Idempotent."""
        if self._owns_portal:
            self._portal.close()


def blocking(
    method: Callable[Concatenate[AsyncT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[AsyncT], P], T]:
    """The method of a synchronous twin, with the parameters and the description of an async method."""

    @functools.wraps(method)
    def call(blocking: Blocking[AsyncT], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return blocking._portal.call(method, blocking._twin, *args, **kwargs)

    return call
