"""Quality over time: estimated and confirmed accuracy, the versions that served, and all readings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from starlette.responses import Response

from karen_learner.records import LearningCycleResult, utc_now
from karen_learner.service.dashboard.formats import short_version
from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import page_router
from karen_learner.service.dashboard.sessions import viewer

router = page_router()

CYCLES = 200


@router.get("/tenants/{tenant_id}/quality", dependencies=[viewer("read")])
async def quality(view: Viewed) -> Response:
    history = await view.learner.history(view.tenant_id, limit=CYCLES)
    measured = await view.state.measured(view.tenant_id)
    judged = [one for one in reversed(history) if one.validation is not None]
    readings = sorted(measured.readings.values(), key=lambda one: (not one.alarm, not one.known, one.name))
    return await view.page(
        "quality.html",
        "Quality",
        series=measured.series,
        versions=measured.versions,
        holdback=await view.learner.store.holdback(view.tenant_id),
        now=utc_now(),
        markers=markers(history),
        judged=judged,
        readings=readings,
    )


def markers(history: Sequence[LearningCycleResult]) -> str:
    """The times at which versions began to serve, as JSON for the charts."""
    changes = [one for one in history if one.status in ("deployed", "rolled_back")]
    return json.dumps(
        [
            {"x": (one.started_at + timedelta(seconds=one.duration_s)).timestamp(),
             "label": short_version(one.model_version)}
            for one in changes
        ]
    )  # fmt: skip
