"""The program of the worker process.

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
from collections.abc import Callable
from typing import IO, NoReturn

from karen_learner.errors import KarenLearnerError, without_message
from karen_learner.training.cache import WorkerCache
from karen_learner.training.handlers import perform
from karen_learner.training.protocol import AnyJob, Failure, Message

NICENESS = 10
TRACE_CHARS = 4000


def serve(requests: IO[bytes], answers: IO[bytes]) -> NoReturn:
    """Do the jobs of a stream, one after the other, and answer with messages until the stream ends."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, lines), daemon=True, name="karen-worker-input").start()
    cache = WorkerCache()

    def send(message: Message) -> None:
        try:
            answers.write(message.model_dump_json().encode() + b"\n")
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent has ended

    while True:
        send(_answer(lines.get(), cache, send))


def _read(requests: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    for line in requests:
        lines.put(line)
    os._exit(0)  # the parent has ended: stop a running job, too


def _answer(line: bytes, cache: WorkerCache, send: Callable[[Message], None]) -> Message:
    try:
        report = perform(
            AnyJob.validate_json(line), lambda progress: send(Message(progress=progress)), cache=cache
        )
    except KarenLearnerError as error:
        return Message(failure=Failure(error=type(error).__name__, message=str(error)))
    except Exception as error:  # the boundary of a job: the parent raises every error
        trace = traceback.format_exc()[-TRACE_CHARS:]
        return Message(
            failure=Failure(error=type(error).__name__, message=without_message(error), trace=trace)
        )
    return Message(report=report.model_dump(mode="json"))


def main() -> None:
    """Serve on standard input and output. Output of libraries goes to standard error."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    gc.freeze()  # exempts loaded modules from collections, which take as long as reading a corpus
    serve(sys.stdin.buffer, answers)
