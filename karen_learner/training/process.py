"""The parent's side of the worker: start it, ask it, kill it, start it again."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from pydantic import ValidationError

from karen_learner import errors
from karen_learner.errors import (
    KarenLearnerError,
    LearnerClosed,
    TrainingError,
    WorkerCrashed,
    WorkerTimedOut,
)
from karen_learner.settings import TrainingSettings
from karen_learner.training.jobs import (
    AnyMessage,
    CrossValidateJob,
    CrossValidateReport,
    Done,
    Failed,
    Job,
    PassReport,
    PipelineSpec,
    PredictJob,
    PredictReport,
    Progress,
    ReadJob,
    ReadReport,
    TrainJob,
    TrainReport,
)

logger = logging.getLogger(__name__)

OnProgress = Callable[[PassReport], None]
ReportT = TypeVar("ReportT", TrainReport, PredictReport, CrossValidateReport, ReadReport)

NUMERIC_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
MESSAGE_LIMIT = 64 * 1024 * 1024
"""Bytes of one message: the predictions of a full holdout by two models are about one megabyte."""
GRACE_S = 5.0
ERROR_LINES = 20


class TrainingWorker:
    """One warm worker process. Jobs of concurrent callers are done one after another.

    The process starts with the first job, or with `start()`. When it dies, the job that it was doing
    raises WorkerCrashed, and the next job starts a new one. A job that takes longer than
    `settings.time_limit_s` (without settings: no limit) is killed, and raises WorkerTimedOut.
    """

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._closed = False
        self._complaints: deque[str] = deque(maxlen=ERROR_LINES)
        self._listener: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """The process id of the running worker, if there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the process, so that the first job finds it warm. Idempotent."""
        async with self._lock:
            await self._running()

    async def close(self) -> None:
        """End the process; a job under way raises WorkerCrashed. Idempotent."""
        self._closed = True
        await self._stop()
        await asyncio.gather(*self._reading)

    async def train(self, job: TrainJob, on_progress: OnProgress | None = None) -> TrainReport:
        """Train a candidate. Raises TrainingError (TrainingDiverged, WorkerCrashed, WorkerTimedOut) or
        ModelError."""
        return await self._ask(job, TrainReport, on_progress)

    async def predict(self, job: PredictJob) -> PredictReport:
        """Predict the holdout with each model."""
        return await self._ask(job, PredictReport, None)

    async def cross_validate(self, job: CrossValidateJob) -> CrossValidateReport:
        """Estimate the scores of a small data set."""
        return await self._ask(job, CrossValidateReport, None)

    def read_ahead(self, pipeline: PipelineSpec) -> None:
        """Have the worker read what is likely to be trained next, while nobody waits for it.

        Does nothing while the worker has a job. Should it fail, the training reads the pipeline itself.
        """
        if self._closed or self._lock.locked():
            return
        task = asyncio.create_task(self._read_ahead(pipeline))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read_ahead(self, pipeline: PipelineSpec) -> None:
        try:
            await self._ask(ReadJob(pipeline=pipeline), ReadReport, None)
        except KarenLearnerError as error:
            logger.debug("%s was not read ahead: %s", pipeline.path, error)

    async def _ask(self, job: Job, report_type: type[ReportT], on_progress: OnProgress | None) -> ReportT:
        async with self._lock:
            process = await self._running()
            limit_s = self._settings.time_limit_s if self._settings is not None else None
            try:
                talk = self._converse(process, job, report_type, on_progress)
                return await asyncio.wait_for(talk, limit_s)
            except asyncio.TimeoutError:
                await self._kill()
                raise _timed_out(job, limit_s) from None
            except asyncio.CancelledError:
                await self._stop()  # nobody waits for the job: do not let it hold the next one up
                raise

    async def _converse(
        self,
        process: asyncio.subprocess.Process,
        job: Job,
        report_type: type[ReportT],
        on_progress: OnProgress | None,
    ) -> ReportT:
        self._complaints.clear()  # what was said of another tenant's job is not told in this one's result
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(job.model_dump_json().encode() + b"\n")
            await process.stdin.drain()
            while line := await process.stdout.readline():
                message = AnyMessage.validate_json(line)
                if isinstance(message, Done):
                    return report_type.model_validate(message.report)
                if isinstance(message, Failed):
                    raise _as_error(message)
                if isinstance(message, Progress) and on_progress is not None:
                    on_progress(message.report)
        except (ConnectionError, ValidationError, ValueError) as error:
            await self._stop()
            raise WorkerCrashed(f"the training worker gave no usable answer: {error}") from error
        raise await self._crash(process)

    async def _crash(self, process: asyncio.subprocess.Process) -> WorkerCrashed:
        code = await process.wait()
        complaints = " | ".join(self._complaints)
        await self._stop()
        return WorkerCrashed(
            f"the training worker ended with code {code} in the middle of a job"
            f"{' (killed, perhaps for lack of memory)' if code == -9 else ''}; "
            f"a new one is started for the next job. {complaints}".strip()
        )

    async def _running(self) -> asyncio.subprocess.Process:
        if self._closed:
            raise LearnerClosed("the training worker is closed")
        if self._process is None or self._process.returncode is not None:
            await self._stop()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "karen_learner.training.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **dict.fromkeys(NUMERIC_THREADS, "1")},
                limit=MESSAGE_LIMIT,
                start_new_session=True,
            )
            self._listener = asyncio.create_task(self._listen(self._process))
            logger.info("training worker started", extra={"pid": self._process.pid})
        return self._process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        while line := await process.stderr.readline():
            text = line.decode(errors="replace").rstrip()
            self._complaints.append(text)
            logger.debug("training worker: %s", text)

    async def _kill(self) -> None:
        """For one that may not even notice that its input has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self._stop()

    async def _stop(self) -> None:
        process, self._process = self._process, None
        listener, self._listener = self._listener, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            await _end(process)
        if listener is not None:
            await asyncio.gather(listener, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    """It ends by itself when its input does; it is killed where it does not."""
    try:
        await asyncio.wait_for(process.wait(), GRACE_S)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()


def _timed_out(job: Job, limit_s: float | None) -> WorkerTimedOut:
    return WorkerTimedOut(
        f"the training worker had not finished its job ({job.kind}) within training.time_limit_s, which is "
        f"{limit_s:g} seconds, and was killed: raise it if the data need longer; a new worker is started for "
        "the next job"
    )


def _as_error(message: Failed) -> TrainingError | errors.ModelError:
    if message.trace:
        logger.error("the training worker failed: %s\n%s", message.message, message.trace)
    known = getattr(errors, message.error, None)
    if isinstance(known, type) and issubclass(known, (TrainingError, errors.ModelError)):
        return known(message.message)
    return TrainingError(message.message)
