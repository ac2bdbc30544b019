"""Python's threads take turns; these are made short, so that the event loop waits for none of them long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SHORT_S = 0.0005
"""How long a thread may go on while another one waits. Python's own five milliseconds are what a loaded model
would cost every request meanwhile."""


class ShortSwitchInterval:
    """Sets the interpreter's switch interval for as long as anybody wants it short; safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted_by = 0
        self._usual_s = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._wanted_by:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(SHORT_S, self._usual_s))
            self._wanted_by += 1
        try:
            yield
        finally:
            with self._lock:
                self._wanted_by -= 1
                if not self._wanted_by:
                    sys.setswitchinterval(self._usual_s)


short_switch_interval = ShortSwitchInterval()
