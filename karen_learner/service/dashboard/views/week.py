"""The actions of the last week: cycles, rollbacks and remedies, each with its reason and its effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.responses import Response

from karen_learner.records import LearningCycleResult, utc_now
from karen_learner.records.incidents import Incident, StoryEntry
from karen_learner.service.dashboard.formats import plain, short_version
from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import link, page_router
from karen_learner.service.dashboard.sessions import viewer

router = page_router()

DAYS = 7
LIMIT = 500
REMEDY_ENDS = {"verification": "helped", "recovery": "helped", "undo": "undone", "failure": "failed"}
"""Kinds of entries that tell the end of a remedy, and its effect in a word."""


@dataclass(frozen=True)
class Action:
    """One action with its reason, and its effect in a word and in detail."""

    at: datetime
    what: str
    why: str
    effect: str
    detail: str
    href: str


@router.get("/tenants/{tenant_id}/week", dependencies=[viewer("read")])
async def week(view: Viewed) -> Response:
    since = utc_now() - timedelta(days=DAYS)
    cycles = [
        one for one in await view.learner.history(view.tenant_id, limit=LIMIT) if one.started_at >= since
    ]
    store = view.learner.store
    found = await store.newest_incidents(view.tenant_id, since=since, limit=LIMIT)
    incidents = [one for one in found if view.may_see(one)]
    actions = [
        *(_of_cycle(one, view.tenant_id) for one in cycles if one.status != "skipped"),
        *(action for one in incidents for action in _of_incident(one, since, view.tenant_id)),
    ]
    return await view.page(
        "week.html",
        "What it did",
        actions=sorted(actions, key=lambda one: one.at, reverse=True),
        effects=_counted(one.effect for one in actions),
        skipped=sum(one.status == "skipped" for one in cycles),
        resolved=sum(one.state == "resolved" for one in incidents),
        days=DAYS,
    )


def _of_cycle(result: LearningCycleResult, tenant_id: str) -> Action:
    what = "rolled back to" if result.status == "rolled_back" else f"trained ({result.mode})"
    return Action(
        at=result.started_at,
        what=f"{what} {short_version(result.model_version)}" if result.status == "rolled_back" else what,
        why=result.reason or "",
        effect={"deployed": "helped", "rejected": "changed nothing", "failed": "failed"}.get(
            result.status, plain(result.status)
        ),
        detail=_gain(result),
        href=link(tenant_id, "cycles", result.cycle_id),
    )


def _gain(result: LearningCycleResult) -> str:
    """The shown gain of a deployed cycle; else the reason of the verdict."""
    verdict = result.verdict
    if verdict is None:
        return result.error_message or ""
    check = next((one for one in verdict.checks if one.name == "improved"), None)
    if result.status == "deployed" and verdict.improved and check is not None:
        return check.detail
    failed = next((one.detail for one in verdict.checks if not one.passed), verdict.summary)
    return verdict.missing or failed


def _of_incident(incident: Incident, since: datetime, tenant_id: str) -> Iterator[Action]:
    """Each remedy of an incident, with the entry that tells its end."""
    for number, entry in enumerate(incident.story):
        if entry.kind == "remedy" and entry.at >= since:
            end = _end_of(incident.story[number + 1 :])
            yield Action(
                at=entry.at,
                what=entry.text,
                why=plain(incident.type),
                effect="not judged yet" if end is None else REMEDY_ENDS[end.kind],
                detail="" if end is None else end.text,
                href=link(tenant_id, "incidents", incident.incident_id),
            )


def _end_of(later: Sequence[StoryEntry]) -> StoryEntry | None:
    for entry in later:
        if entry.kind == "remedy":
            return None
        if entry.kind in REMEDY_ENDS:
            return entry
    return None


def _counted(effects: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in effects:
        counts[one] = counts.get(one, 0) + 1
    return counts
