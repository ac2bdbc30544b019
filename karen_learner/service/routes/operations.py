"""Health checks, metrics, and the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from karen_learner.errors import LearnerClosed
from karen_learner.service.bodies import Audited
from karen_learner.service.parts import Shared, allow

router = APIRouter(tags=["operations"])

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers. Needs no key."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(parts: Shared) -> dict[str, str]:
    """Whether the store can be read and the service does not stop. Needs no key."""
    if parts.stopping.is_set():
        raise LearnerClosed("the service stops")
    await parts.learner.start()
    await parts.learner.store.tenants(limit=1)
    return {"status": "ready", "store": "writable" if parts.learner.store.read_only is None else "read-only"}


@router.get("/metrics", dependencies=[allow("read")], response_class=Response)
async def metrics(parts: Shared) -> Response:
    """Metrics of this process in the text format of Prometheus."""
    return Response(parts.metrics.text(), media_type=METRICS_TYPE)


@router.get("/v1/audit", dependencies=[allow("administer")])
async def audit(
    parts: Shared,
    tenant_id: Annotated[str | None, Query(max_length=1_000)] = None,
    before: Annotated[int | None, Query(ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[Audited]:
    """The audit log, newest first. To continue, pass the `seq` of the last entry as `before`."""
    found = await parts.access_store.audit(tenant_id=tenant_id, before=before, limit=limit)
    return [Audited(seq=seq, **dict(entry)) for seq, entry in found]
