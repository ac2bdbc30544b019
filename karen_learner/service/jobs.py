"""Cycles that run after the answer to their request."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from karen_learner.contracts import MemoryStore
from karen_learner.errors import KarenLearnerError, UnknownJob, trace_of
from karen_learner.memory.leases import is_alive, owner_of
from karen_learner.records import LearningCycleResult, Record, new_id, utc_now

logger = logging.getLogger(__name__)

PREFIX = "job:"
KEPT_DAYS = 30.0
BEAT_S = 20.0
"""Seconds between two signs of life of a running job."""
SILENCE = timedelta(minutes=2)
"""Age of the last sign of life after which a job has failed, also on another machine."""

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
    """Jobs of all processes. Each process runs its own, and stores their states.

    A job whose process has ended, or gives no sign of life, is `failed`: the next start journals its cycle.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._owner = owner_of(os.getpid())
        self._running: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, tenant_id: str, kind: JobKind, work: Work) -> Job:
        """Start the work in the background. Raises StoreError if the job cannot be stored."""
        job = Job(tenant_id=tenant_id, kind=kind)
        await self._save(job)
        old = _ids_of(utc_now() - timedelta(days=KEPT_DAYS))
        await self._store.prune_service_states(tenant_id, first=PREFIX, last=f"{PREFIX}{old}")
        self._running[job.job_id] = job
        task = asyncio.create_task(self._run(job, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def get(self, tenant_id: str, job_id: str) -> Job:
        """The present state of a job. Raises UnknownJob, also for a job of another tenant."""
        running = self._running.get(job_id)
        if running is not None and running.tenant_id == tenant_id:
            return running
        stored = await self._store.service_state(tenant_id, f"{PREFIX}{job_id}")
        if stored is None:
            raise UnknownJob("no such job: see the cycles of the tenant")
        job = Job.model_validate(stored["job"])
        seen_at = stored.get("at")  # not in rows of earlier releases
        is_silent = seen_at is not None and utc_now() - datetime.fromisoformat(seen_at) > SILENCE
        if job.state == "running" and (is_silent or not is_alive(stored["owner"])):
            return job.model_copy(update={"state": "failed", "error": "the process of the job has ended"})
        return job

    async def wait(self) -> None:
        """Wait until all jobs of this process have ended."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _run(self, job: Job, work: Work) -> None:
        beating = asyncio.create_task(self._beat(job))
        try:
            done: dict[str, Any] = {"state": "finished", "result": await work()}
        except KarenLearnerError as error:
            done = {"state": "failed", "error": str(error)}
        except Exception as error:
            logger.error("job %s failed: %s", job.job_id, trace_of(error))
            done = {"state": "failed", "error": f"an unexpected error: see the log, job {job.job_id}"}
        finally:
            beating.cancel()
            await asyncio.wait([beating])
        ended = job.model_copy(update={**done, "finished_at": utc_now()})
        self._running[job.job_id] = ended
        try:
            await self._save(ended)
        except KarenLearnerError as error:  # the store is full or closed: the journal has the cycle
            logger.warning("the end of job %s is not stored: %s", job.job_id, error)
        else:
            del self._running[job.job_id]

    async def _beat(self, job: Job) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._save(job)
            except KarenLearnerError as error:
                logger.warning("the sign of life of job %s is not stored yet: %s", job.job_id, error)

    async def _save(self, job: Job) -> None:
        value = {"owner": self._owner, "at": utc_now().isoformat(), "job": job.model_dump(mode="json")}
        await self._store.set_service_state(job.tenant_id, f"{PREFIX}{job.job_id}", value)


def _ids_of(at: datetime) -> str:
    """The first part of all ids that were made at this time: ids begin with their time."""
    return f"{int(1e3 * at.timestamp()):012x}"
