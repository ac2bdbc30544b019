"""The audit log of a tenant: changes and reads, with callers and times."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import page_router
from karen_learner.service.dashboard.sessions import viewer

router = page_router()

PAGE = 100


@router.get("/tenants/{tenant_id}/audit", dependencies=[viewer("administer")])
async def audit(view: Viewed, before: Annotated[int | None, Query(ge=1)] = None) -> Response:
    await view.learner.status(view.tenant_id)  # raises UnknownTenant
    store = view.parts.access_store
    found = await store.audit(tenant_id=view.tenant_id, before=before, limit=PAGE + 1)
    names = {key.key_id: key.name for key in await store.api_keys()}
    entries = found[:PAGE]
    older = entries[-1][0] if len(found) > PAGE else None
    return await view.page("audit.html", "Audit", entries=entries, names=names, older=older, before=before)
