"""Cycles, versions, and events of a tenant."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Query, Request
from starlette.responses import Response

from karen_learner.errors import UnknownVersion
from karen_learner.learner import AutonomousLearner
from karen_learner.records import CycleRow, LearningCycleResult, LearningPlan, ModelVersion
from karen_learner.service.bodies import BootstrapBody, CycleBody, NoteBody, RollbackBody
from karen_learner.service.feed import EventStream
from karen_learner.service.jobs import Job
from karen_learner.service.large_bodies import api_router
from karen_learner.service.parts import (
    Shared,
    TenantId,
    address_of,
    allow,
    is_admitted,
    open_stream,
)

router = api_router(prefix="/v1/tenants/{tenant_id}", tags=["learning"])

Limit = Annotated[int, Query(ge=1, le=1_000, description="Maximum number of entries.")]


@router.post("/cycles", status_code=202, dependencies=[allow("operate")])
async def start_cycle(
    tenant_id: TenantId, body: CycleBody, parts: Shared, request: Request, response: Response
) -> Job:
    """Start a learning cycle. `Location` is the address of the job with its result."""
    await parts.learner.plan_learning_cycle(tenant_id)  # an unknown tenant is an error of this request
    job = await parts.jobs.start(
        tenant_id,
        "cycle",
        lambda: parts.learner.trigger_learning_cycle(
            tenant_id, force_training=body.force, mode=body.mode, reason=body.reason
        ),
    )
    return _located(job, request, response)


@router.post("/bootstrap", status_code=202, dependencies=[allow("operate")])
async def bootstrap(
    tenant_id: TenantId, body: BootstrapBody, parts: Shared, request: Request, response: Response
) -> Job:
    """Train the first model from labelled texts, or add labelled texts to a later one."""
    job = await parts.jobs.start(
        tenant_id,
        "bootstrap",
        lambda: parts.learner.bootstrap(tenant_id, body.examples, mode=body.mode, replace=body.replace),
    )
    return _located(job, request, response)


def _located(job: Job, request: Request, response: Response) -> Job:
    place = f"v1/tenants/{quote(job.tenant_id, safe='')}/jobs/{job.job_id}"
    response.headers["Location"] = f"{request.base_url}{place}"
    return job


@router.get("/jobs/{job_id}", dependencies=[allow("read")])
async def job(tenant_id: TenantId, job_id: str, parts: Shared) -> Job:
    """A requested cycle: its state, and its result once it has ended."""
    return parts.shown(await parts.jobs.get(tenant_id, job_id))


@router.get("/plan", dependencies=[allow("read")])
async def plan(tenant_id: TenantId, parts: Shared, force: bool = False) -> LearningPlan:
    """The cycle that would run now. Changes nothing."""
    return await parts.learner.plan_learning_cycle(tenant_id, force_training=force)


@router.get("/cycles", dependencies=[allow("read")])
async def cycles(
    tenant_id: TenantId, parts: Shared, limit: Limit = 20, since: Annotated[int, Query(ge=0)] = 0
) -> list[CycleRow]:
    """Cycles and rollbacks after the `seq` of `since`, oldest first."""
    return parts.shown(list(await parts.learner.journal(tenant_id, limit=limit, since=since)))


@router.get("/history", dependencies=[allow("read")])
async def history(tenant_id: TenantId, parts: Shared, limit: Limit = 20) -> list[LearningCycleResult]:
    """The newest cycles and rollbacks, newest first."""
    return parts.shown(list(await parts.learner.history(tenant_id, limit=limit)))


@router.get("/cycles/{cycle_id}", dependencies=[allow("read")])
async def cycle(tenant_id: TenantId, cycle_id: str, parts: Shared) -> LearningCycleResult:
    """The result of a cycle, by its id or an unambiguous part of it."""
    return parts.shown(await parts.learner.cycle(tenant_id, cycle_id))


@router.get("/versions", dependencies=[allow("read")])
async def versions(
    tenant_id: TenantId, parts: Shared, limit: Limit = 100, since: str | None = None
) -> list[ModelVersion]:
    """Versions, newest first; with `since`, those after that version in order."""
    return parts.shown(list(await parts.learner.versions(tenant_id, limit=limit, since=since)))


@router.get("/versions/{version}", dependencies=[allow("read")])
async def version(tenant_id: TenantId, version: str, parts: Shared) -> ModelVersion:
    """A version, by its name or an unambiguous part of it."""
    found = await parts.learner.version(tenant_id, version)
    if found is None:
        raise UnknownVersion(f"{tenant_id!r} has no version {version!r}")
    return parts.shown(found)


@router.patch("/versions/{version}", dependencies=[allow("operate")])
async def note_version(tenant_id: TenantId, version: str, body: NoteBody, parts: Shared) -> ModelVersion:
    """Write a note about a version; null removes it."""
    return parts.shown(await parts.learner.note_version(tenant_id, version, body.note))


@router.post("/rollback", dependencies=[allow("operate")])
async def rollback(tenant_id: TenantId, body: RollbackBody, parts: Shared) -> ModelVersion:
    """Make a version the champion again. The reason becomes a note about the undone version."""
    return parts.shown(await roll_back(parts.learner, tenant_id, body.version, body.reason))


async def roll_back(
    learner: AutonomousLearner, tenant_id: str, version: str | None, reason: str | None
) -> ModelVersion:
    """Undo the champion, and write the reason as a note about it."""
    undone = (await learner.status(tenant_id)).champion
    restored = await learner.rollback(tenant_id, version)
    if reason is not None and undone is not None:
        await learner.note_version(tenant_id, undone.version, reason)
    return restored


@router.get(
    "/events",
    response_class=EventStream,
    dependencies=[allow("read"), Depends(open_stream)],
)
async def events(tenant_id: TenantId, parts: Shared, request: Request) -> EventStream:
    """Events of the tenant in this process, as server-sent events.

    The stream ends when the service stops, or the key is revoked.
    """
    found = parts.feed.of(
        tenant_id,
        may_go_on=lambda: is_admitted(parts.access.caller(address_of(request), request.headers)),
        check_s=parts.stream_check_s,
    )
    return EventStream(found, headers={"X-Accel-Buffering": "no"})  # nginx would hold events back
