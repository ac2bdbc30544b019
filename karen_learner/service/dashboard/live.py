"""Changes of a tenant as server-sent events, so that open pages read the changed parts again.

A page gets the names of what changed, and no data.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from karen_learner.service.dashboard.pages import PREFIX
from karen_learner.service.dashboard.sessions import find_caller, viewer
from karen_learner.service.dashboard.state import Shown
from karen_learner.service.parts import Shared, TenantId, is_admitted, open_stream

Seen = Annotated[str, Query(max_length=100)]

router = APIRouter(prefix=PREFIX, include_in_schema=False)


@router.get(
    "/tenants/{tenant_id}/stream",
    response_class=EventSourceResponse,
    dependencies=[viewer("read"), Depends(open_stream)],
)
async def stream(
    tenant_id: TenantId, parts: Shared, state: Shown, request: Request, seen: Seen = ""
) -> AsyncIterator[ServerSentEvent]:
    """The names of what changes after the snapshot of the page.

    The stream ends when the service stops, or the session is over.
    """
    kinds = state.changes.of(
        tenant_id,
        seen,
        may_go_on=lambda: is_admitted(find_caller(request, parts)),
        check_s=parts.stream_check_s,
    )
    async for kind in kinds:
        yield ServerSentEvent(event="changed", raw_data=kind)
