"""Cycles that run after the answer to their request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

from pydantic import Field

from karen_learner.errors import KarenLearnerError, UnknownJob
from karen_learner.records import LearningCycleResult, Record, new_id, utc_now

logger = logging.getLogger(__name__)

MAX_JOBS = 1_000

JobKind = Literal["cycle", "bootstrap"]
Work = Callable[[], Awaitable[LearningCycleResult]]


class Job(Record):
    """A requested cycle. `error` is the message of an error; a rejected or failed cycle is a result."""

    job_id: str = Field(default_factory=new_id)
    tenant_id: str
    kind: JobKind
    state: Literal["running", "finished", "failed"] = "running"
    requested_at: datetime = Field(default_factory=utc_now)
    finished_at: datetime | None = None
    result: LearningCycleResult | None = None
    error: str | None = None


class Jobs:
    """The newest jobs of this process. The journal of cycles (`GET .../cycles`) outlives them."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, tenant_id: str, kind: JobKind, work: Work) -> Job:
        """Start the work in the background."""
        job = Job(tenant_id=tenant_id, kind=kind)
        self._jobs[job.job_id] = job
        self._forget_old()
        task = asyncio.create_task(self._run(job, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def get(self, tenant_id: str, job_id: str) -> Job:
        """The present state of a job. Raises UnknownJob, also for a job of another tenant."""
        job = self._jobs.get(job_id)
        if job is None or job.tenant_id != tenant_id:
            raise UnknownJob("no such job in this process: see the cycles of the tenant")
        return job

    async def wait(self) -> None:
        """Wait until all jobs have ended."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _run(self, job: Job, work: Work) -> None:
        try:
            done = {"state": "finished", "result": await work()}
        except KarenLearnerError as error:
            done = {"state": "failed", "error": str(error)}
        except Exception:
            logger.exception("job %s failed", job.job_id)
            done = {"state": "failed", "error": f"an unexpected error: see the log, job {job.job_id}"}
        self._jobs[job.job_id] = job.model_copy(update={**done, "finished_at": utc_now()})

    def _forget_old(self) -> None:
        ended = [name for name, job in self._jobs.items() if job.state != "running"]
        for name in ended[: max(0, len(self._jobs) - MAX_JOBS)]:
            del self._jobs[name]
