"""Tickets of changes and deployments, their measured effects, and the sum of the effects."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import Field

from karen_learner.improvement import ImprovementTracker
from karen_learner.records.improvement import ImpactReport, ROISummary, Ticket
from karen_learner.service.bodies import Body
from karen_learner.service.large_bodies import api_router
from karen_learner.service.parts import Parts, Shared, TenantId, allow

router = api_router(prefix="/v1/tenants/{tenant_id}", tags=["improvement"])

Words = Annotated[str, Field(min_length=1, max_length=10_000)]
Days = Annotated[int, Field(ge=1, le=365)]
Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class TicketBody(Body):
    title: Words = Field(examples=["shorter questions about bills"])
    metric: str | None = Field(None, examples=["accuracy"])
    measurement_period: Days | None = None
    expected_effect: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    cost: Amount | None = None


class ImplementedBody(Body):
    details: Words = Field(examples=["template 7 replaces template 3"])


class DismissedBody(Body):
    reason: Words = Field(examples=["users did not like it"])


class TicketAnswer(Ticket):
    """A ticket with its measurements, oldest first."""

    impacts: tuple[ImpactReport, ...] = ()


def _tracker(parts: Parts, tenant_id: str) -> ImprovementTracker:
    return ImprovementTracker(learner=parts.learner, tenant_id=tenant_id)


@router.get("/improvements", dependencies=[allow("read")])
async def improvements(tenant_id: TenantId, parts: Shared, metric: str | None = None) -> ROISummary:
    """The shrunk sum of the measured effects on a metric, and its worth."""
    return await _tracker(parts, tenant_id).calculate_cumulative_roi(metric)


@router.get("/tickets", dependencies=[allow("read")])
async def tickets(
    tenant_id: TenantId, parts: Shared, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
) -> list[Ticket]:
    """The newest tickets, newest first."""
    return list(await _tracker(parts, tenant_id).tickets(limit=limit))


@router.post("/tickets", status_code=201, dependencies=[allow("operate")])
async def open_ticket(tenant_id: TenantId, body: TicketBody, parts: Shared) -> Ticket:
    """Open a ticket for a change. It tells the smallest effect that recent data could show."""
    tracker = _tracker(parts, tenant_id)
    ticket_id = await tracker.create_improvement_ticket(
        body.title, **{name: value for name, value in body if name != "title"}
    )
    return await tracker.ticket(ticket_id)


@router.get("/tickets/{ticket_id}", dependencies=[allow("read")])
async def ticket(tenant_id: TenantId, ticket_id: str, parts: Shared) -> TicketAnswer:
    """A ticket with its measurements."""
    tracker = _tracker(parts, tenant_id)
    found = await tracker.ticket(ticket_id)
    return TicketAnswer(**dict(found), impacts=tuple(await tracker.impacts(found.ticket_id)))


@router.post("/tickets/{ticket_id}/implemented", dependencies=[allow("operate")])
async def implemented(tenant_id: TenantId, ticket_id: str, body: ImplementedBody, parts: Shared) -> Ticket:
    """The change was made now. Its effect is measured in the days after it."""
    return await _tracker(parts, tenant_id).mark_implemented(ticket_id, body.details)


@router.post("/tickets/{ticket_id}/dismissed", dependencies=[allow("operate")])
async def dismissed(tenant_id: TenantId, ticket_id: str, body: DismissedBody, parts: Shared) -> Ticket:
    """The change is not made, or was undone: its effect is not added."""
    return await _tracker(parts, tenant_id).dismiss(ticket_id, body.reason)


@router.post("/tickets/{ticket_id}/measure", dependencies=[allow("operate")])
async def measure(
    tenant_id: TenantId,
    ticket_id: str,
    parts: Shared,
    days: Annotated[int | None, Query(ge=1, le=365)] = None,
) -> ImpactReport:
    """Measure the effect of a change now. An early measurement is preliminary and not stored."""
    return await _tracker(parts, tenant_id).measure_impact(ticket_id, days)
