"""The worker process: `python -m karen_learner.training.worker`.

Reads jobs from standard input and writes messages to standard output, one a line. It lowers its priority in
favour of serving. It exits as soon as its input ends, even during a job: the parent may have been killed.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import sys
import threading
import traceback
from typing import IO

from karen_learner.errors import KarenLearnerError
from karen_learner.training.cache import WorkerCache
from karen_learner.training.handlers import perform
from karen_learner.training.protocol import AnyJob, Failure, Message

NICENESS = 10
TRACE_CHARS = 4000


class Worker:
    """Does the jobs of a stream, one after the other, and answers with messages."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._cache = WorkerCache()

    def serve(self) -> None:
        """Work until the input ends."""
        threading.Thread(target=self._read, daemon=True, name="karen-worker-input").start()
        while True:
            self._answer(self._lines.get())

    def _read(self) -> None:
        for line in self._requests:
            self._lines.put(line)
        os._exit(0)  # the parent has ended: stop a running job, too

    def _answer(self, line: bytes) -> None:
        try:
            job = AnyJob.validate_json(line)
            report = perform(job, lambda one: self._send(Message(progress=one)), cache=self._cache)
        except KarenLearnerError as error:
            self._send(Message(failure=Failure(error=type(error).__name__, message=str(error))))
        except Exception as error:  # the boundary of a job: the parent raises every error
            trace = traceback.format_exc()[-TRACE_CHARS:]
            name = type(error).__name__
            self._send(Message(failure=Failure(error=name, message=f"{name}: {error}", trace=trace)))
        else:
            self._send(Message(report=report.model_dump(mode="json")))

    def _send(self, message: Message) -> None:
        try:
            self._answers.write(message.model_dump_json().encode() + b"\n")
            self._answers.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent has ended


def main() -> None:
    """Serve on standard input and output. Output of libraries goes to standard error."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    gc.freeze()  # exempts loaded modules from collections, which take as long as reading a corpus
    Worker(sys.stdin.buffer, answers).serve()


if __name__ == "__main__":
    main()
