"""Cycles, and the verdict on a cycle: each gate as an interval, and texts with other answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from karen_learner.records import Flip, GateCheck, LearningCycleResult
from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import form_of, link, page_router, seen_other
from karen_learner.service.dashboard.sessions import viewer

router = page_router()

PAGE, MAX_SHOWN = 50, 1_000
SHOWN_FLIPS = 60


@dataclass(frozen=True)
class GateBar:
    """A check drawn on a line: positions from 0 to 100 of interval, zero or threshold, and value."""

    check: GateCheck
    low: float | None = None
    high: float | None = None
    mark: float | None = None
    value: float | None = None


@router.get("/tenants/{tenant_id}/cycles", dependencies=[viewer("read")])
async def cycles(view: Viewed, limit: Annotated[int, Query(ge=1, le=MAX_SHOWN)] = PAGE) -> Response:
    found = await view.learner.history(view.tenant_id, limit=limit + 1)
    status = await view.learner.status(view.tenant_id)
    plan = await view.learner.plan_learning_cycle(view.tenant_id)
    return await view.page(
        "cycles.html",
        "Cycles",
        cycles=found[:limit],
        more=min(limit + PAGE, MAX_SHOWN) if len(found) > limit else None,
        running=status.running_cycle,
        plan=plan,
        advice=status.advice,
        metrics=await view.learner.get_learning_metrics(view.tenant_id),
    )


@router.post("/tenants/{tenant_id}/cycles", dependencies=[viewer("operate")])
async def start(view: Viewed) -> Response:
    """Start a cycle in the background."""
    fields = await form_of(view.request)
    reason, tenant_id = fields.get("reason", "").strip()[:1_000] or None, view.tenant_id
    await view.learner.plan_learning_cycle(tenant_id)  # an unknown tenant is an error of this request
    await view.parts.jobs.start(
        tenant_id,
        "cycle",
        lambda: view.learner.trigger_learning_cycle(
            tenant_id, force_training=fields.get("force") == "yes", reason=reason
        ),
    )
    return seen_other(link(tenant_id, "cycles"))


@router.get("/tenants/{tenant_id}/cycles/{cycle_id}", dependencies=[viewer("read")])
async def verdict(view: Viewed, cycle_id: str) -> Response:
    result = await view.learner.cycle(view.tenant_id, cycle_id)
    return await view.page("cycle.html", "Verdict", **await _verdict_values(view, result))


async def _verdict_values(view: Viewed, result: LearningCycleResult) -> dict[str, object]:
    flips = () if result.flips is None else result.flips.first[:SHOWN_FLIPS]
    shows_texts = view.may_show_texts()
    names = [flip.example_id for flip in flips] if shows_texts else []
    return {
        "result": result,
        "bars": [] if result.verdict is None else gate_bars(result.verdict.checks),
        "flips": by_kind(flips),
        "texts": await view.learner.example_texts(view.tenant_id, names),
        "shows_texts": shows_texts,
    }


def by_kind(flips: Sequence[Flip]) -> dict[str, list[Flip]]:
    """Flips by kind, the harmful ones first."""
    return {kind: [one for one in flips if one.kind == kind] for kind in ("broken", "fixed", "changed")}


def gate_bars(checks: Sequence[GateCheck]) -> list[GateBar]:
    """All checks on lines of one scale: failed ones first."""
    bounds = [abs(bound) for check in checks for bound in check.interval or ()]
    reach = max(bounds, default=0.0) * 1.1 or 1.0
    return [_bar(check, reach) for check in sorted(checks, key=lambda one: one.passed)]


def _bar(check: GateCheck, reach: float) -> GateBar:
    if check.interval is not None:
        low, high = (50.0 + 50.0 * bound / reach for bound in check.interval)
        return GateBar(check, low=low, high=high, mark=50.0)
    if check.threshold is not None and check.statistic is not None:
        largest = max(abs(check.threshold), abs(check.statistic), 1.0)
        return GateBar(check, mark=100.0 * check.threshold / largest, value=100.0 * check.statistic / largest)
    return GateBar(check)
