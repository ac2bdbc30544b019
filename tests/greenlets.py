"""Coverage of what runs in greenlets, as SQLAlchemy's asynchronous engines let all their work run.

With `concurrency = greenlet`, coverage looks up at each call, in Python, which greenlet it is in: that is
slow, and now and then it hangs where a greenlet has just died. With threads alone, lines that follow an
`await` of the store are missed, or taken for lines of another file. So each greenlet has a tracer of its own
here, as each thread has; the tracers are exchanged when the greenlets are.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from greenlet import greenlet, settrace


def trace_greenlets_as_threads() -> None:
    """Of this thread. Without coverage, or where it uses no trace function, nothing is done."""
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
