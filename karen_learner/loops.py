"""Objects that belong to one event loop of one process.

Tasks, futures and connections of a loop cannot be awaited in another loop. Threads and connections do not
survive `os.fork`.
"""

from __future__ import annotations

import asyncio
import os
import weakref

from karen_learner.errors import WrongEventLoop

REMEDY = "make one in each event loop and process, or use karen_learner.blocking"


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
            raise WrongEventLoop(f"{self._owner} belongs to {loop}: {REMEDY}")

    def release(self) -> None:
        """Forget the loop: the next check binds again. For an object whose start failed."""
        self._loop = None
