"""The local worker: a training backend that runs jobs in one child process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from karen_learner import errors
from karen_learner.concurrency import LoopBinding
from karen_learner.contracts import OnProgress
from karen_learner.errors import (
    KarenLearnerError,
    LearnerClosed,
    TrainingError,
    WorkerCrashed,
    WorkerTimedOut,
    without_message,
)
from karen_learner.models.user_code import registered_code
from karen_learner.records import Record
from karen_learner.records.training import (
    PipelineSpec,
    PredictJob,
    PredictReport,
    PreloadJob,
    PreloadReport,
    TrainJob,
    TrainReport,
)
from karen_learner.settings import TrainingSettings
from karen_learner.training.protocol import MARK, Failure, Job, Message, Setup

logger = logging.getLogger(__name__)

ReportT = TypeVar("ReportT", bound=Record)

NUMERIC_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
MESSAGE_LIMIT = 64 * 1024 * 1024
"""Bytes of one message. Predictions for 6,000 judged texts take about one megabyte."""
START = """
import os, sys
requests, answers = os.dup(0), os.dup(1)
os.write(answers, b"\\n")
os.dup2(2, 1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.path[:] = sys.argv[1:]
from karen_learner.lazy_imports import import_spacy, without_collection
with without_collection():
    import_spacy()
    from karen_learner.training.worker import main
main(requests, answers)
"""
"""Program of the worker. Its arguments are the entries of `sys.path`.

Before any import, the protocol gets its own file descriptors, because imported modules may use standard
input and output. The line feed ends a line that startup files of Python may have printed.
"""
GRACE_S = 5.0
ERROR_LINES = 20


class LocalWorker:
    """A `TrainingBackend` with one process for all tenants: no two jobs overlap.

    The process starts with the first job or with `start()`. If it dies, the running job raises WorkerCrashed
    and the next job starts a new process. A job beyond `settings.time_limit_s` (without settings: no limit)
    is killed and raises WorkerTimedOut. After `settings.worker_idle_s` without a job the process ends, so
    that its memory holds no training words (without settings: never). The next job or preload restarts it.
    """

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._known_code: tuple[str, ...] = ()
        self._loop = LoopBinding("the training worker")
        self._lock = asyncio.Lock()
        self._closed = False
        self._errors: deque[str] = deque(maxlen=ERROR_LINES)
        self._error_reader: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """The id of the running process; None without one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the process ahead of the first job. Idempotent; does not wait for a running job.

        Raises WrongEventLoop and LearnerClosed.
        """
        self._loop.check()
        self._require_open()
        if self.pid is not None and self._lock.locked():
            return
        async with self._lock:
            await self._running()
            self._start_idle_timer()

    async def close(self) -> None:
        """End the process; a running job raises WorkerCrashed. Idempotent."""
        if self._process is not None:
            self._loop.check()
        self._closed = True
        self._cancel_idle_timer()
        await self._stop()
        await asyncio.gather(*self._background)

    async def restart(self) -> None:
        """Kill the process; a running job raises WorkerCrashed. The next job starts a new one."""
        await self._stop(kill=True)

    async def train(self, job: TrainJob, on_progress: OnProgress | None = None) -> TrainReport:
        """Train a candidate. `on_progress` receives passes, at most 21 of a pipe.

        Raises TrainingError (TrainingDiverged, WorkerCrashed, WorkerTimedOut) or ModelError.
        """
        return await self._ask(job, TrainReport, on_progress)

    async def predict(self, job: PredictJob) -> PredictReport:
        """The prediction for each line of a file."""
        return await self._ask(job, PredictReport)

    def preload(self, tenant_id: str, pipeline: PipelineSpec) -> None:
        """Load the pipeline of the next training in the background.

        Does nothing during a job. After a failure, the training loads the pipeline itself.
        """
        if self._closed or self._lock.locked():
            return
        self._in_background(self._preload(PreloadJob(tenant_id=tenant_id, pipeline=pipeline)))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _preload(self, job: PreloadJob) -> None:
        try:
            await self._ask(job, PreloadReport)
        except KarenLearnerError as error:
            logger.debug("%s was not preloaded: %s", job.pipeline.path, error)

    async def _ask(
        self, job: Job, report_type: type[ReportT], on_progress: OnProgress | None = None
    ) -> ReportT:
        self._loop.check()
        async with self._lock:
            self._cancel_idle_timer()
            process = await self._running()
            limit_s = self._settings.time_limit_s if self._settings is not None else None
            try:
                answer = await asyncio.wait_for(
                    self._exchange(process, job, report_type, on_progress), limit_s
                )
            except asyncio.TimeoutError:
                await self._stop(kill=True)
                raise WorkerTimedOut(
                    f"the training worker exceeded training.time_limit_s ({limit_s:g} seconds) in a "
                    f"{job.kind} job and was killed: raise the limit for large data; the next job starts a "
                    "new worker"
                ) from None
            except BaseException:
                await self._stop()  # so that the next job neither waits nor gets the rest of this answer
                raise
            self._start_idle_timer()
        if isinstance(answer, Failure):
            raise _as_error(answer)
        return answer

    async def _exchange(
        self,
        process: asyncio.subprocess.Process,
        job: Job,
        report_type: type[ReportT],
        on_progress: OnProgress | None,
    ) -> ReportT | Failure:
        self._errors.clear()  # the errors of another tenant's job must not reach this result
        try:
            await self._send(process, job).drain()
            async for line in _messages(process):
                message = Message.model_validate_json(line)
                if message.progress is None:
                    return message.failure or report_type.model_validate(message.report)
                if on_progress is not None:
                    on_progress(message.progress)
        except (ConnectionError, ValidationError, ValueError) as error:
            logger.exception("the training worker sent an invalid message")
            raise WorkerCrashed(
                f"the training worker sent an invalid message: {without_message(error)}"
            ) from error
        raise await self._crash(process)

    def _send(self, process: asyncio.subprocess.Process, record: Record) -> asyncio.StreamWriter:
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        process.stdin.write(record.model_dump_json().encode() + b"\n")
        return process.stdin

    def _setup(self) -> Setup:
        imports = self._settings.imports if self._settings is not None else ()
        return Setup(imports=imports, code=registered_code())

    async def _crash(self, process: asyncio.subprocess.Process) -> WorkerCrashed:
        code = await process.wait()
        await self._stop()
        if self._errors:
            logger.error("last messages of the training worker: %s", " | ".join(self._errors))
        return WorkerCrashed(
            f"the training worker ended with code {code} during a job"
            f"{' (killed, perhaps by a lack of memory)' if code == -9 else ''}; "
            "the next job starts a new one"
        )

    def _start_idle_timer(self) -> None:
        self._cancel_idle_timer()
        if self._settings is not None and not self._closed:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self._settings.worker_idle_s, self._release)

    def _cancel_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _release(self) -> None:
        self._idle_timer = None
        self._in_background(self._stop_if_idle())

    async def _stop_if_idle(self) -> None:
        async with self._lock:
            if self._idle_timer is None:  # otherwise a job has run since, and started the timer again
                await self._stop()
                logger.info("idle training worker ended")

    async def _running(self) -> asyncio.subprocess.Process:
        self._require_open()
        setup, process = self._setup(), self._process
        knows_code = self._known_code == setup.code.names()  # otherwise it was registered later
        if process is not None and process.returncode is None and knows_code:
            return process
        await self._stop()
        self._process = process = await _start_process()
        self._error_reader = asyncio.create_task(self._read_errors(process))
        self._known_code = setup.code.names()
        self._send(process, setup)
        logger.info("training worker started", extra={"pid": process.pid})
        try:
            self._require_open()  # it may be closed during the start
        except LearnerClosed:
            await self._stop(kill=True)
            raise
        return process

    def _require_open(self) -> None:
        if self._closed:
            raise LearnerClosed("the training worker is closed")

    async def _read_errors(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # a line above MESSAGE_LIMIT: unread messages would block the worker
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._errors.append(text)
            logger.debug("training worker: %s", text)

    async def _stop(self, *, kill: bool = False) -> None:
        """End the process by the end of its input. Kill it after GRACE_S; with `kill`, at once."""
        process, self._process = self._process, None
        error_reader, self._error_reader = self._error_reader, None
        if process is not None:
            if kill and process.returncode is None:
                process.kill()
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), GRACE_S)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()
        if error_reader is not None:
            await asyncio.gather(error_reader, return_exceptions=True)


async def _start_process() -> asyncio.subprocess.Process:
    python = _python()
    try:
        return await asyncio.create_subprocess_exec(
            python,
            "-Wignore",  # warnings of spaCy quote texts
            "-P",  # a file of the working directory, such as queue.py, must not replace a module
            "-c",
            START,
            *_import_path(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **dict.fromkeys(NUMERIC_THREADS, "1")},
            limit=MESSAGE_LIMIT,
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerCrashed(f"the training worker cannot be started with {python}: {error}") from error


async def _messages(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    """The messages of the worker, without other lines. A crash can cut the last line: it is left out."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    while (line := await process.stdout.readline()).endswith(b"\n"):
        if line.startswith(MARK):
            yield line.removeprefix(MARK)


def _python() -> str:
    """The Python of the worker: that of this process, or the one of `multiprocessing.set_executable`.

    An embedded Python or a frozen program has none of its own.
    """
    from multiprocessing.spawn import get_executable

    python = os.fsdecode(get_executable() or "")
    if not python or (getattr(sys, "frozen", False) and python == sys.executable):
        raise WorkerCrashed(
            "this program has no Python for the training worker: name one with multiprocessing.set_executable"
        )
    return python


def _import_path() -> list[str]:
    """`sys.path` of this process, with the working directory at the end.

    A file there, such as `queue.py`, must not replace a module of a library. The folder of this package
    keeps its place: it may be the working directory.
    """
    package = Path(__file__).parents[2]
    entries = list(dict.fromkeys([*sys.path, str(package)]))
    return sorted(entries, key=lambda entry: _is_working_directory(Path(entry)) and Path(entry) != package)


def _is_working_directory(folder: Path) -> bool:
    try:
        return folder.samefile(Path.cwd())
    except OSError:  # a missing folder, or a working directory that was removed
        return False


def _as_error(failure: Failure) -> TrainingError | errors.ModelError:
    if failure.trace:
        logger.error("the training worker failed: %s\n%s", failure.message, failure.trace)
    known = getattr(errors, failure.error, None)
    if isinstance(known, type) and issubclass(known, (TrainingError, errors.ModelError)):
        return known(failure.message)
    return TrainingError(failure.message)
