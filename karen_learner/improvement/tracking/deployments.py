"""Tickets of deployed versions: they are opened, measured and dismissed without a person."""

from __future__ import annotations

from datetime import datetime, timedelta

from karen_learner.contracts import MemoryStore
from karen_learner.improvement.tracking.impact_reports import LATER
from karen_learner.improvement.tracking.tracker import ImprovementTracker
from karen_learner.records import ModelVersion
from karen_learner.records.improvement import DEPLOYED, ImpactReport, Ticket
from karen_learner.settings import ImpactSettings

MAX_ANCESTORS = 1_000


async def follow_deployments(
    tracker: ImprovementTracker, store: MemoryStore, settings: ImpactSettings, now: datetime
) -> datetime | None:
    """Open a ticket for a new champion, measure changes whose period has ended, dismiss undone ones.

    Deployments while another one is measured belong to its ticket. Idempotent. Returns the time of the next
    measurement; None if no change waits for one.
    """
    champion = await store.champion(tracker.tenant_id)
    tickets = [one for one in await tracker.tickets() if one.status != "dismissed"]
    if champion is not None:
        kept = await _ancestry(store, champion, {one.version for one in tickets if one.version is not None})
        for undone in [one for one in tickets if one.version is not None and one.version not in kept]:
            await tracker.undo(undone, f"rolled back to {champion.version}")
            tickets.remove(undone)
        if champion.parent is not None and not any(_covers(one, champion) for one in tickets):
            await _open(tracker, store, settings, champion, now)
    for ticket in tickets:
        if (days := await _due_days(tracker, ticket, now)) is not None:
            await tracker.measure(ticket, days)
    ends = [one.window_end(windows) for one in await tracker.tickets() for windows in (1, LATER)]
    return min((end for end in ends if end is not None and end > now), default=None)


async def _ancestry(store: MemoryStore, champion: ModelVersion, wanted: set[str]) -> set[str]:
    """The champion and its ancestors, back to the last one of the wanted versions."""
    found, name = set[str](), champion.version
    while wanted - found and len(found) < MAX_ANCESTORS:
        found.add(name)
        version = await store.get_version(champion.tenant_id, name)
        if version is None or version.parent is None or version.parent in found:
            break
        name = version.parent
    return found


def _covers(ticket: Ticket, version: ModelVersion) -> bool:
    """Whether the version is that of the ticket, or was deployed while its effect is measured."""
    end = ticket.window_end(LATER if ticket.holdback is not None else 1)
    if ticket.version is None or ticket.implemented_at is None or end is None:
        return False
    return ticket.version == version.version or ticket.implemented_at <= version.created_at < end


async def _open(
    tracker: ImprovementTracker,
    store: MemoryStore,
    settings: ImpactSettings,
    champion: ModelVersion,
    now: datetime,
) -> None:
    """Open the ticket of a version, unless its period has ended: metric and period are named before."""
    at, parent = champion.created_at, await store.get_version(champion.tenant_id, champion.parent or "")
    holdback = await store.holdback(champion.tenant_id)
    if holdback is None or holdback.version != champion.parent or holdback.started_at < at:
        holdback = None
    start = at if holdback is None else holdback.started_at
    if now >= start + timedelta(days=settings.window_days):
        return
    ticket = Ticket(
        ticket_id=f"{DEPLOYED}{champion.version}",
        tenant_id=champion.tenant_id,
        recommendation_id=None,
        title=f"{champion.version} replaces {champion.parent}",
        metric=settings.metric,
        measurement_period_days=settings.window_days,
        expected_effect=_expected(parent, champion) if settings.metric == "accuracy" else None,
        smallest_effect=None,
        version=champion.version,
        holdback=holdback,
        cost=None,
        status="implemented",
        opened_at=now,
        implemented_at=start,
        implementation_details=f"deployed by the cycle {champion.cycle_id}",
    )
    await tracker.open(ticket, start)


def _expected(parent: ModelVersion | None, champion: ModelVersion) -> float | None:
    """The difference of both accuracies on gold when the version was deployed."""
    before = None if parent is None else parent.scores.get("intent_accuracy")
    after = champion.scores.get("intent_accuracy")
    return None if before is None or after is None else after - before


async def _due_days(tracker: ImprovementTracker, ticket: Ticket, now: datetime) -> int | None:
    """The days of the measurement that is due: after the period, and later with a holdback; else None."""
    end, later, days = ticket.window_end(), ticket.window_end(LATER), ticket.measurement_period_days
    if end is not None and now >= end and ticket.status == "implemented":
        return days
    if later is not None and now >= later and ticket.status == "measured" and ticket.holdback is not None:
        stored: list[ImpactReport] = list(await tracker.impacts(ticket.ticket_id))
        return LATER * days if len(stored) < LATER else None
    return None
