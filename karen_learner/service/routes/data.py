"""Tenants: their status, labels, and examples that wait for a person."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from karen_learner.records import LearningMetrics, Quarantine, TenantStatus
from karen_learner.records.erasure import Erasure
from karen_learner.records.labels import LabelReport, LabelRow
from karen_learner.service.access import Caller
from karen_learner.service.bodies import Decided, ExamplesBody, Id, LabelBody, RetireBody
from karen_learner.service.large_bodies import api_router
from karen_learner.service.parts import Shared, TenantId, allow

router = api_router(prefix="/v1/tenants", tags=["tenants"])


@router.get("")
async def tenants(parts: Shared, caller: Annotated[Caller, allow("read", every_tenant=False)]) -> list[str]:
    """The tenants that the key may name."""
    return caller.visible(await parts.learner.tenants())


@router.get("/{tenant_id}", dependencies=[allow("read")])
async def status(tenant_id: TenantId, parts: Shared) -> TenantStatus:
    """Champion, counts, labels, running and last cycle, advice, and health."""
    return parts.shown(await parts.learner.status(tenant_id))


@router.get("/{tenant_id}/metrics", dependencies=[allow("read")])
async def learning_metrics(tenant_id: TenantId, parts: Shared) -> LearningMetrics:
    """Counts over the cycles of the tenant."""
    return await parts.learner.get_learning_metrics(tenant_id)


@router.get("/{tenant_id}/labels", tags=["labels"], dependencies=[allow("read")])
async def labels(tenant_id: TenantId, parts: Shared) -> list[LabelRow]:
    """The labels of each task, with the numbers of their examples."""
    return list(await parts.learner.labels(tenant_id))


@router.post("/{tenant_id}/labels/{label}/rename", tags=["labels"], dependencies=[allow("operate")])
async def rename_label(tenant_id: TenantId, label: str, body: LabelBody, parts: Shared) -> LabelReport:
    """Give a label another name, in all examples and feedback."""
    return await parts.learner.rename_label(
        tenant_id, label, body.new_name, task=body.task, dry_run=body.dry_run
    )


@router.post("/{tenant_id}/labels/{label}/merge", tags=["labels"], dependencies=[allow("operate")])
async def merge_labels(tenant_id: TenantId, label: str, body: LabelBody, parts: Shared) -> LabelReport:
    """Make a label a former name of another one. It cannot be undone."""
    return await parts.learner.merge_labels(
        tenant_id, label, body.new_name, task=body.task, dry_run=body.dry_run
    )


@router.post("/{tenant_id}/labels/{label}/retire", tags=["labels"], dependencies=[allow("operate")])
async def retire_label(tenant_id: TenantId, label: str, body: RetireBody, parts: Shared) -> LabelReport:
    """Remove a label. It cannot be undone."""
    return await parts.learner.retire_label(tenant_id, label, task=body.task, dry_run=body.dry_run)


@router.delete("/{tenant_id}/users", dependencies=[allow("administer")])
async def erase_user(tenant_id: TenantId, parts: Shared, user_id: Id, dry_run: bool = False) -> Erasure:
    """Erase the texts, the feedback and the id of a user. It cannot be undone."""
    return await parts.learner.erase_user(tenant_id, user_id, dry_run=dry_run)


@router.get("/{tenant_id}/quarantine", tags=["quarantine"], dependencies=[allow("operate")])
async def quarantine(
    tenant_id: TenantId,
    parts: Shared,
    reason: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Quarantine:
    """The examples that are not learned until a person decides, with their texts."""
    return await parts.learner.quarantine(tenant_id, reason=reason, limit=limit)


@router.post("/{tenant_id}/quarantine/release", tags=["quarantine"], dependencies=[allow("operate")])
async def release(tenant_id: TenantId, body: ExamplesBody, parts: Shared) -> Decided:
    """Let examples be learned."""
    return Decided(examples=await parts.learner.release(tenant_id, body.example_ids))


@router.post("/{tenant_id}/quarantine/discard", tags=["quarantine"], dependencies=[allow("operate")])
async def discard(tenant_id: TenantId, body: ExamplesBody, parts: Shared) -> Decided:
    """Exclude examples."""
    return Decided(examples=await parts.learner.discard(tenant_id, body.example_ids))
