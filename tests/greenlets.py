"""Coverage in greenlets, which SQLAlchemy's asynchronous engines use.

With `concurrency = greenlet`, coverage looks up the greenlet of each call in Python. That is slow and can
hang after a greenlet has ended. With threads alone, coverage loses lines after an `await` of the store. Here
each greenlet has its own tracer, as each thread has. A switch of greenlets exchanges the tracers.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from greenlet import greenlet, settrace


def trace_greenlets_as_threads() -> None:
    """Exchange tracers in this thread. Does nothing without a trace function."""
    start = threading.gettrace()
    if start is None:
        return
    unused: list[Any] = []

    def exchange(event: str, args: tuple[greenlet, greenlet]) -> None:
        origin, target = args
        tracer = sys.gettrace()
        if tracer is None:
            return  # coverage has stopped
        if origin.dead:
            unused.append(tracer)
        else:
            vars(origin)["tracer"] = tracer
        known = vars(target).pop("tracer", None)
        sys.settrace(known or (unused.pop() if unused else start))

    settrace(exchange)
