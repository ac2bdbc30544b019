"""The worker process: `python -m karen_learner.training.worker`.

Reads one job a line from standard input and writes its messages, one a line, to standard output.
It stays warm between jobs, lowers its own priority so that serving goes first, and ends at once when
its parent is gone (end of input), whatever it is doing: a parent killed with -9 leaves no orphan.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import sys
import threading
import traceback
from typing import IO, TYPE_CHECKING

from karen_learner.errors import KarenLearnerError
from karen_learner.records.training import PassReport
from karen_learner.training.protocol import AnyJob, Done, Failed, Message, Progress

if TYPE_CHECKING:
    from karen_learner.training.cache import Warm

NICENESS = 10
TRACE_CHARS = 4000


class Worker:
    """Jobs in, messages out."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._warm: Warm | None = None

    def serve(self) -> None:
        """Work until the input ends."""
        threading.Thread(target=self._read, daemon=True, name="karen-worker-input").start()
        while True:
            self._answer(self._lines.get())

    def _read(self) -> None:
        for line in self._requests:
            self._lines.put(line)
        os._exit(0)  # the parent is gone: nobody wants the result of a job that is still running

    def _answer(self, line: bytes) -> None:
        from karen_learner.training.cache import Warm
        from karen_learner.training.handlers import perform  # spaCy loads once the process is reachable

        self._warm = self._warm or Warm()
        try:
            report = perform(AnyJob.validate_json(line), self._tell_progress, warm=self._warm)
        except KarenLearnerError as error:
            self._tell(Failed(error=type(error).__name__, message=str(error)))
        except Exception as error:  # the job's boundary: every cause must reach the parent
            trace = traceback.format_exc()[-TRACE_CHARS:]
            name = type(error).__name__
            self._tell(Failed(error=name, message=f"{name}: {error}", trace=trace))
        else:
            self._tell(Done(report=report.model_dump(mode="json")))

    def _tell_progress(self, report: PassReport) -> None:
        self._tell(Progress(report=report))

    def _tell(self, message: Message) -> None:
        try:
            self._answers.write(message.model_dump_json().encode() + b"\n")
            self._answers.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent is gone


def main() -> None:
    """Take standard output for the protocol, and send what others print to standard error."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    threading.Thread(target=_warm_up, daemon=True, name="karen-worker-warm-up").start()
    Worker(sys.stdin.buffer, answers).serve()


def _warm_up() -> None:
    import karen_learner.training.handlers  # noqa: F401 - importing spaCy is what takes the time

    gc.freeze()  # what is loaded now stays: to look through it for garbage takes as long as reading a corpus


if __name__ == "__main__":
    main()
