"""The program of the worker process.

Reads jobs from one file descriptor and writes messages to another, one a line. It lowers its priority in
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

from karen_learner.components.lexical.words import remember_texts
from karen_learner.disk import PRIVATE_UMASK
from karen_learner.errors import KarenLearnerError, without_message
from karen_learner.models.user_code import import_code, register
from karen_learner.training.cache import WorkerCache
from karen_learner.training.handlers import perform
from karen_learner.training.protocol import MARK, AnyJob, Failure, Message, Setup

NICENESS = 10
CACHED_FEATURES = 5_000_000
"""Features of texts in memory, in a cache of 20 to 45 MB for each kind of pipe: about 20,000 short texts."""
TRACE_CHARS = 4000


def serve(requests: IO[bytes], answers: IO[bytes]) -> NoReturn:
    """Read the setup, then do the jobs of a stream, one after the other, until the stream ends."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, lines), daemon=True, name="karen-worker-input").start()
    cache = WorkerCache()

    def send(message: Message) -> None:
        try:
            answers.write(MARK + message.model_dump_json().encode() + b"\n")
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent has ended

    problem = _set_up(lines.get())
    while True:
        line = lines.get()
        send(problem or _answer(line, cache, send))


def _read(requests: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    for line in requests:
        lines.put(line)
    os._exit(0)  # the parent has ended: stop a running job, too


def _set_up(line: bytes) -> Message | None:
    """Import the code of users. The failure is the answer to all jobs."""
    setup = Setup.model_validate_json(line)
    register(setup.code)
    try:
        import_code(setup.imports)
    except KarenLearnerError as error:
        return _failed(error)
    return None


def _failed(error: KarenLearnerError) -> Message:
    return Message(failure=Failure(error=type(error).__name__, message=str(error)))


def _answer(line: bytes, cache: WorkerCache, send: Callable[[Message], None]) -> Message:
    try:
        report = perform(
            AnyJob.validate_json(line), lambda progress: send(Message(progress=progress)), cache=cache
        )
    except KarenLearnerError as error:
        return _failed(error)
    except Exception as error:  # the boundary of a job: the parent raises every error
        trace = traceback.format_exc()[-TRACE_CHARS:]
        return Message(
            failure=Failure(error=type(error).__name__, message=without_message(error), trace=trace)
        )
    return Message(report=report.model_dump(mode="json"))


def main(requests: int, answers: int) -> NoReturn:
    """Serve on two file descriptors."""
    os.umask(PRIVATE_UMASK)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    remember_texts(CACHED_FEATURES)
    gc.freeze()  # exempts loaded modules from collections, which take as long as reading a corpus
    serve(os.fdopen(requests, "rb"), os.fdopen(answers, "wb"))
