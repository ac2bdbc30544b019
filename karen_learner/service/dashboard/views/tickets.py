"""Tickets of changes: opened from a recommendation, implemented, measured or dismissed."""

from __future__ import annotations

from starlette.responses import Response

from karen_learner.errors import InvalidInput
from karen_learner.improvement import ImprovementTracker
from karen_learner.service.dashboard.frame import View, Viewed
from karen_learner.service.dashboard.pages import form_of, link, page_router, seen_other
from karen_learner.service.dashboard.sessions import viewer

router = page_router()

IMPLEMENTED = ("implemented", "measured")


@router.post("/tenants/{tenant_id}/improvements/tickets", dependencies=[viewer("operate")])
async def open_ticket(view: Viewed) -> Response:
    """Open a ticket for a recommendation."""
    fields = await form_of(view.request)
    ticket_id = await tracker_of(view).create_improvement_ticket(fields.get("id", ""))
    return seen_other(link(view.tenant_id, "improvements", "tickets", ticket_id))


@router.get("/tenants/{tenant_id}/improvements/tickets/{ticket_id}", dependencies=[viewer("read")])
async def ticket(view: Viewed, ticket_id: str) -> Response:
    """A ticket with its stored measurements; without any, the preliminary effect."""
    tracker = tracker_of(view)
    found = await tracker.ticket(ticket_id)
    impacts = await tracker.impacts(found.ticket_id)
    if not impacts and found.status in IMPLEMENTED:
        impacts = [await tracker.measure_impact(found.ticket_id)]
    currency = view.learner.settings.reports.currency
    return await view.page("ticket.html", "Ticket", ticket=found, impacts=impacts, currency=currency)


@router.post("/tenants/{tenant_id}/improvements/tickets/{ticket_id}", dependencies=[viewer("operate")])
async def change(view: Viewed, ticket_id: str) -> Response:
    """Say that the change was made now, or dismiss the ticket."""
    fields = await form_of(view.request)
    tracker, words = tracker_of(view), fields.get("details", "").strip()
    if fields.get("decision") == "implemented":
        await tracker.mark_implemented(ticket_id, words)
    elif fields.get("decision") == "dismissed":
        await tracker.dismiss(ticket_id, words)
    else:
        raise InvalidInput("say that the change was made, or dismiss the ticket")
    return seen_other(link(view.tenant_id, "improvements", "tickets", ticket_id))


def tracker_of(view: View) -> ImprovementTracker:
    """The tickets of the tenant of a page."""
    return ImprovementTracker(learner=view.learner, tenant_id=view.tenant_id)
