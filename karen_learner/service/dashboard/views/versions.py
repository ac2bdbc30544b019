"""Versions: compare two, roll back with a reason."""

from __future__ import annotations

from starlette.responses import Response

from karen_learner.errors import InvalidInput
from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import form_of, link, page_router, seen_other
from karen_learner.service.dashboard.sessions import viewer
from karen_learner.service.dashboard.views.cycles import by_kind
from karen_learner.service.routes.learning import roll_back

router = page_router()

SHOWN = 100
SHOWN_FLIPS = 60


@router.get("/tenants/{tenant_id}/versions", dependencies=[viewer("read")])
async def versions(view: Viewed) -> Response:
    found = await view.learner.versions(view.tenant_id, limit=SHOWN)
    status = await view.learner.status(view.tenant_id)
    counts = {
        one.version: await view.learner.store.version_counts(view.tenant_id, one.version)
        for one in found[:20]
    }
    return await view.page(
        "versions.html",
        "Versions",
        versions=found,
        counts=counts,
        champion=status.champion and status.champion.version,
        serving=status.serving and status.serving.version,
    )


@router.get("/tenants/{tenant_id}/versions/compare", dependencies=[viewer("read")])
async def compare(view: Viewed, a: str = "", b: str = "") -> Response:
    """Two versions on the judged texts that both recorded."""
    if not a or not b or a == b:
        raise InvalidInput("choose two different versions to compare")
    found = await view.learner.compare(view.tenant_id, a, b)
    texts = found.example_texts if view.may_show_texts() else {}
    kinds = by_kind(found.flips[:1_000])
    return await view.page(
        "compare.html",
        "Compare versions",
        comparison=found,
        flips={kind: several[:SHOWN_FLIPS] for kind, several in kinds.items()},
        texts=texts,
        shows_texts=view.may_show_texts(),
    )


@router.post("/tenants/{tenant_id}/versions/rollback", dependencies=[viewer("operate")])
async def rollback(view: Viewed) -> Response:
    """Make a version the champion again. The reason becomes a note about the undone version."""
    fields = await form_of(view.request)
    reason = fields.get("reason", "").strip()
    if not reason:
        raise InvalidInput("give the reason of the rollback")
    await roll_back(view.learner, view.tenant_id, fields.get("version") or None, reason)
    return seen_other(link(view.tenant_id, "versions"))
