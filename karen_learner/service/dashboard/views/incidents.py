"""Incidents as stories: acknowledge, silence, and pause a remedy, each with a reason."""

from __future__ import annotations

from starlette.responses import Response

from karen_learner.autonomy.troubleshooter.operator_actions import OperatorActions
from karen_learner.errors import InvalidInput
from karen_learner.records import utc_now
from karen_learner.records.incidents import Incident
from karen_learner.service.dashboard.frame import View, Viewed
from karen_learner.service.dashboard.pages import form_of, link, page_router, seen_other
from karen_learner.service.dashboard.sessions import viewer

router = page_router()

SHOWN = 100


@router.get("/tenants/{tenant_id}/incidents", dependencies=[viewer("read")])
async def incidents(view: Viewed) -> Response:
    store = view.learner.store
    found = [one for one in await store.newest_incidents(view.tenant_id, limit=SHOWN) if view.may_see(one)]
    paused = [one for one in await store.paused_remedies() if view.may_see(one)]
    return await view.page(
        "incidents.html",
        "Incidents",
        unended=[one for one in found if one.ended_at is None],
        ended=[one for one in found if one.ended_at is not None],
        paused=paused,
        now=utc_now(),
    )


@router.get("/tenants/{tenant_id}/incidents/{incident_id}", dependencies=[viewer("read")])
async def incident(view: Viewed, incident_id: str) -> Response:
    return await view.page(
        "incident.html", "Incident", incident=await _find(view, incident_id), now=utc_now()
    )


@router.post("/tenants/{tenant_id}/incidents/{incident_id}", dependencies=[viewer("operate")])
async def decide(view: Viewed, incident_id: str) -> Response:
    """Acknowledge or silence an incident, or pause its remedy for this tenant."""
    fields = await form_of(view.request)
    found, people = await _find(view, incident_id), OperatorActions(view.learner.store)
    if found.tenant_id is None:
        view.caller.require("operate")  # an incident of the home is not one tenant's
    reason, decision, now = fields.get("reason", ""), fields.get("decision"), utc_now()
    if decision == "acknowledge":
        await people.acknowledge(found.incident_id, reason, now=now)
    elif decision == "silence":
        await people.silence(found.incident_id, reason, hours=_hours(fields), now=now)
    elif decision == "pause" and found.remedy is not None:
        tenant_id = found.tenant_id
        await people.pause(found.remedy, reason, now=now, tenant_id=tenant_id, hours=_hours(fields))
    else:
        raise InvalidInput("choose to acknowledge, to silence, or to pause the remedy of the incident")
    return seen_other(link(view.tenant_id, "incidents", found.incident_id))


@router.post("/tenants/{tenant_id}/incidents/remedies/resume", dependencies=[viewer("operate")])
async def resume(view: Viewed) -> Response:
    """End the pause of a remedy of this tenant."""
    fields = await form_of(view.request)
    await OperatorActions(view.learner.store).resume(fields.get("remedy", ""), tenant_id=view.tenant_id)
    return seen_other(link(view.tenant_id, "incidents"))


async def _find(view: View, incident_id: str) -> Incident:
    """An incident that this tenant's pages show. Raises UnknownIncident for those of others."""
    return await OperatorActions(view.learner.store).find(incident_id, tenant_ids=view.seen_tenants)


def _hours(fields: dict[str, str]) -> float:
    try:
        return float(fields.get("hours", ""))
    except ValueError:
        raise InvalidInput("hours are a number") from None
