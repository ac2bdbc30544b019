"""Data and contributors: stored examples, labels with too few, and people who teach."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from karen_learner.records.reviews import Contributor
from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import page_router
from karen_learner.service.dashboard.sessions import viewer

router = page_router()

CONTRIBUTIONS, PEOPLE = 20_000, 50


@router.get("/tenants/{tenant_id}/data", dependencies=[viewer("read")])
async def data(view: Viewed) -> Response:
    status = await view.learner.status(view.tenant_id)
    labels = await view.learner.labels(view.tenant_id)
    excluded = await view.learner.quarantine(view.tenant_id, limit=0)
    people: Sequence[Contributor] = ()
    if view.may_show_texts():
        people = await view.learner.store.people(view.tenant_id, newest=CONTRIBUTIONS, limit=PEOPLE)
    return await view.page(
        "data.html",
        "Data and contributors",
        counts=status.counts,
        labels=sorted(labels, key=lambda one: (one.task, -one.examples, one.label)),
        most=max((one.examples for one in labels), default=1) or 1,
        excluded=excluded.counts,
        people=people,
        newest=CONTRIBUTIONS,
        shows_people=view.may_show_texts(),
    )
