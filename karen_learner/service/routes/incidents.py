"""Incidents of a tenant, decisions of people about them, and stored outcomes."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Query
from pydantic import Field

from karen_learner.autonomy.troubleshooter.operator_actions import OperatorActions
from karen_learner.contracts import IncidentStore
from karen_learner.records import Outcome, utc_now
from karen_learner.records.incidents import Incident, RemedyPause
from karen_learner.service.bodies import Body
from karen_learner.service.large_bodies import api_router
from karen_learner.service.parts import Parts, Shared, TenantId, allow

router = api_router(prefix="/v1/tenants/{tenant_id}", tags=["incidents"])

Limit = Annotated[int, Query(ge=1, le=1_000)]
Reason = Annotated[str, Field(min_length=1, max_length=500)]


class ReasonBody(Body):
    reason: Reason


class SilenceBody(ReasonBody):
    hours: Annotated[float, Field(gt=0.0, le=8_784.0)] = 24.0


class PauseBody(ReasonBody):
    hours: Annotated[float, Field(gt=0.0, le=8_784.0)] | None = Field(
        None, description="Default: until it is resumed."
    )


class NumberedOutcome(Outcome):
    """An outcome. Pass the `seq` of the last one as `after` to continue."""

    seq: int


@router.get("/incidents", dependencies=[allow("read")])
async def incidents(tenant_id: TenantId, parts: Shared, limit: Limit = 20) -> list[Incident]:
    """The newest problems with the stories of their remedies, newest first."""
    await parts.learner.start()
    found = await _store(parts).newest_incidents(tenant_id, limit=limit)
    return [one for one in found if one.tenant_id == tenant_id]


@router.get("/incidents/{incident_id}", dependencies=[allow("read")])
async def incident(tenant_id: TenantId, incident_id: str, parts: Shared) -> Incident:
    """A problem with the story of its remedies."""
    await parts.learner.start()
    return await _found(parts, tenant_id, incident_id)


@router.post("/incidents/{incident_id}/acknowledge", dependencies=[allow("operate")])
async def acknowledge_incident(
    tenant_id: TenantId, incident_id: str, body: ReasonBody, parts: Shared
) -> Incident:
    """Record that a person knows the problem: it is not reported again. Remedies go on."""
    await parts.learner.start()
    found = await _found(parts, tenant_id, incident_id)
    return await _actions(parts).acknowledge(found.incident_id, body.reason, now=utc_now())


@router.post("/incidents/{incident_id}/silence", dependencies=[allow("operate")])
async def silence_incident(
    tenant_id: TenantId, incident_id: str, body: SilenceBody, parts: Shared
) -> Incident:
    """Send no notifications about the problem for some hours. Remedies go on."""
    await parts.learner.start()
    found = await _found(parts, tenant_id, incident_id)
    return await _actions(parts).silence(found.incident_id, body.reason, hours=body.hours, now=utc_now())


@router.post("/remedies/{remedy}/pause", dependencies=[allow("operate")])
async def pause_remedy(tenant_id: TenantId, remedy: str, body: PauseBody, parts: Shared) -> RemedyPause:
    """Let a remedy not be applied for this tenant."""
    await parts.learner.start()
    return await _actions(parts).pause(
        remedy, body.reason, now=utc_now(), tenant_id=tenant_id, hours=body.hours
    )


@router.post("/remedies/{remedy}/resume", dependencies=[allow("operate")])
async def resume_remedy(tenant_id: TenantId, remedy: str, parts: Shared) -> bool:
    """End a pause; whether there was one."""
    await parts.learner.start()
    return await _actions(parts).resume(remedy, tenant_id=tenant_id)


@router.get(
    "/outcomes",
    dependencies=[allow("read")],
    response_model_exclude={"__all__": {"predicted", "actual"}},  # may be words of users
)
async def outcomes(
    tenant_id: TenantId,
    parts: Shared,
    limit: Limit = 100,
    after: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> list[NumberedOutcome]:
    """The newest stored outcomes without predictions; with `after`, the first ones after that number."""
    await parts.learner.start()
    page = await parts.learner.store.outcome_page(tenant_id, limit=limit, after=after)
    return [NumberedOutcome(seq=seq, **dict(one)) for seq, one in page]


async def _found(parts: Parts, tenant_id: str, incident_id: str) -> Incident:
    """The incident of the tenant. One of another tenant is unknown."""
    return await _actions(parts).find(incident_id, tenant_ids=[tenant_id])


def _actions(parts: Parts) -> OperatorActions:
    return OperatorActions(_store(parts))


def _store(parts: Parts) -> IncidentStore:
    return cast(IncidentStore, parts.learner.store)
