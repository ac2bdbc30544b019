"""Why a cycle began, or why not: the condition tree of the last tick, or of now, with its readings."""

from __future__ import annotations

from starlette.responses import Response

from karen_learner.autonomy.service import AutonomousService
from karen_learner.autonomy.triggers.part import cycle_request, last_tick
from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import page_router
from karen_learner.service.dashboard.sessions import viewer

router = page_router()


@router.get("/tenants/{tenant_id}/why", dependencies=[viewer("read")])
async def why(view: Viewed) -> Response:
    await view.learner.status(view.tenant_id)  # raises UnknownTenant
    last = await last_tick(view.learner.store, view.tenant_id)
    now = (await AutonomousService(view.learner, tenants=[view.tenant_id]).preview())[0]
    request = await cycle_request(view.learner.store, view.tenant_id)
    return await view.page("why.html", "Why, or why not", last=last, now=now, asked=request)
