"""`ImprovementTracker`: tickets of changes, their measured effects, and the sum of the effects."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self, cast

from karen_learner import memory
from karen_learner.contracts import Clock
from karen_learner.errors import InvalidInput, UnknownTenant, UnknownTicket
from karen_learner.improvement.home import AnalysedLearner
from karen_learner.improvement.roi import roi_of
from karen_learner.improvement.tracking.impact_reports import LATER, impact_report
from karen_learner.improvement.tracking.measurement import METRICS, estimate, metric_of
from karen_learner.improvement.tracking.summary import summarize
from karen_learner.models.files import HomeLayout
from karen_learner.records import check_id, replace_unfit, utc_now
from karen_learner.records.improvement import (
    AnalysisPeriod,
    EstimatedImpact,
    ImpactReport,
    Recommendation,
    ROISummary,
    Ticket,
)
from karen_learner.settings import Settings, load_settings

logger = logging.getLogger(__name__)

MAX_TICKETS = 1_000
RECENT = 100
MAX_DAYS = 365
MAX_TEXT_CHARS = 10_000


class ImprovementTracker:
    """Tickets of one tenant, and the effects of their changes on users.

    `tracking_database` is the file of the tickets, relative to the home; None is the store of the learner.
    Without a learner, turns are read from the same file, by default that of the home `./`. Then use it with
    `async with`, or call `close()` at the end. `settings` are used without a learner.
    """

    def __init__(
        self,
        tracking_database: Path | str | None = None,
        *,
        learner: AnalysedLearner | None = None,
        tenant_id: str = "default",
        settings: Settings | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.tenant_id = check_id(tenant_id, "tenant_id")
        self._learner, self._clock = learner, clock
        self._settings = learner.settings if learner is not None else settings or load_settings()
        layout = learner.layout if learner is not None else HomeLayout(Path(), self._settings.paths)
        self._own: memory.SqlMemoryStore | None = None
        if learner is None or tracking_database is not None:
            place = layout.home / (tracking_database or layout.database)
            self._own = memory.open_store(place, self._settings.store, clock=clock)
        theirs = cast("memory.SqlMemoryStore", learner.store if learner is not None else self._own)
        self._tickets, self._data = self._own if self._own is not None else theirs, theirs

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the file of the tickets, unless it is the store of a learner. Idempotent."""
        if self._own is not None:
            await self._own.close()

    async def _start(self) -> None:
        """Raises StoreError, and UnknownTenant if the learner's store has no data of the tenant."""
        if self._own is not None:
            await self._own.start()
        if self._learner is not None:
            await self._learner.start()
            if await self._data.tenant_number(self.tenant_id) is None:
                raise UnknownTenant(f"nothing is stored for the tenant {self.tenant_id!r}")

    # Tickets ---------------------------------------------------------------------------------

    async def create_improvement_ticket(
        self,
        recommendation: Recommendation | str,
        *,
        metric: str | None = None,
        measurement_period: int | None = None,
        expected_effect: float | None = None,
        cost: float | None = None,
    ) -> str:
        """Open a ticket for a recommendation, or for a change with this title; its id.

        Metric, period in days and expected effect are fixed now; the defaults are those of the recommendation
        and of the settings. The ticket tells the smallest effect that recent data could show. `cost` is that
        of the change. Raises InvalidInput, UnknownTenant.
        """
        ticket = await self.plan_ticket(
            recommendation,
            metric=metric,
            measurement_period=measurement_period,
            expected_effect=expected_effect,
            cost=cost,
        )
        await self._tickets.add_ticket(self.tenant_id, ticket)
        await self._mark_recommendation(ticket)
        return ticket.ticket_id

    async def plan_ticket(
        self,
        recommendation: Recommendation | str,
        *,
        metric: str | None = None,
        measurement_period: int | None = None,
        expected_effect: float | None = None,
        cost: float | None = None,
    ) -> Ticket:
        """The ticket that `create_improvement_ticket` would open. Stores nothing."""
        await self._start()
        given = recommendation if isinstance(recommendation, Recommendation) else None
        impact = given.estimated_impact if given is not None else None
        ticket = Ticket(
            tenant_id=self.tenant_id,
            recommendation_id=None if given is None else given.id,
            title=_text(given.title if given is not None else recommendation, "title"),
            metric=metric or _known(impact) or self._settings.impact.metric,
            measurement_period_days=_days(measurement_period, self._settings.impact.window_days),
            expected_effect=impact.change if expected_effect is None and impact else expected_effect,
            smallest_effect=None,
            version=None,
            cost=None if cost is None else roi_of(0.0, cost, days=1.0).cost,
            status="accepted",
            opened_at=self._clock(),
        )
        return await self._with_smallest_effect(ticket, self._clock())

    async def open(self, ticket: Ticket, at: datetime) -> None:
        """Store a new ticket, with the smallest effect that the time before `at` could show."""
        await self._tickets.add_ticket(self.tenant_id, await self._with_smallest_effect(ticket, at))

    async def _with_smallest_effect(self, ticket: Ticket, at: datetime) -> Ticket:
        start = at - timedelta(days=ticket.measurement_period_days)
        shown = await estimate(self._data, self.tenant_id, ticket.metric, start, at, ticket.holdback)
        smallest = None if shown is None else shown.smallest_effect
        return ticket.model_copy(update={"smallest_effect": smallest})

    async def tickets(self, *, limit: int = RECENT) -> Sequence[Ticket]:
        """The newest tickets, newest first."""
        await self._start()
        return await self._tickets.tickets(self.tenant_id, limit=limit)

    async def ticket(self, ticket_id: str) -> Ticket:
        """A ticket by its id, or by a part of it that only one has. Raises UnknownTicket, InvalidInput."""
        await self._start()
        found = await self._tickets.find_tickets(self.tenant_id, check_id(ticket_id, "ticket_id"))
        if not found:
            raise UnknownTicket(f"{self.tenant_id!r} has no ticket {ticket_id!r:.80}")
        if len(found) > 1:
            names = ", ".join(one.ticket_id for one in found)
            raise InvalidInput(f"{ticket_id!r} is ambiguous: give more characters of one of {names}")
        return found[0]

    async def impacts(self, ticket_id: str | None = None) -> Sequence[ImpactReport]:
        """The stored measurements of a ticket or of all, oldest first. Raises UnknownTicket."""
        await self._start()
        names = None if ticket_id is None else [(await self.ticket(ticket_id)).ticket_id]
        return await self._tickets.impacts(self.tenant_id, names)

    async def mark_implemented(self, ticket_id: str, details: str | Mapping[str, Any]) -> Ticket:
        """The change of a ticket was made now. Raises InvalidInput if it was made or dismissed before."""
        text = details if isinstance(details, str) else json.dumps(details, ensure_ascii=False, default=str)
        changes = {
            "status": "implemented",
            "implemented_at": self._clock(),
            "implementation_details": _text(text, "details"),
        }
        return await self._change(await self.ticket(ticket_id), ("open", "accepted"), changes)

    async def dismiss(self, ticket_id: str, reason: str) -> Ticket:
        """The change is not made, or was undone: it counts no more. Raises InvalidInput."""
        return await self.undo(await self.ticket(ticket_id), reason)

    async def undo(self, ticket: Ticket, reason: str) -> Ticket:
        """As `dismiss`."""
        reason = _text(reason, "reason")
        details = "; ".join(filter(None, (ticket.implementation_details, f"dismissed: {reason}")))
        states = ("open", "accepted", "implemented", "measured")
        return await self._change(ticket, states, {"status": "dismissed", "implementation_details": details})

    async def _change(self, ticket: Ticket, states: Sequence[str], changes: Mapping[str, object]) -> Ticket:
        if ticket.status not in states:
            raise InvalidInput(f"the ticket {ticket.ticket_id} is {ticket.status} already")
        after = ticket.model_copy(update=dict(changes))
        if not await self._tickets.change_ticket(self.tenant_id, ticket, after):
            raise InvalidInput(f"the ticket {ticket.ticket_id} changed at the same moment: repeat this")
        await self._mark_recommendation(after)
        return after

    async def _mark_recommendation(self, ticket: Ticket) -> None:
        """Give the recommendation of a ticket, if it is stored, the status of the ticket."""
        if ticket.recommendation_id is not None:
            await self._data.mark_recommendation(
                self.tenant_id,
                ticket.recommendation_id,
                ticket.status,
                now=self._clock(),
                details=ticket.implementation_details,
            )

    # Effects ---------------------------------------------------------------------------------

    async def measure_impact(self, ticket_id: str, measurement_period: int | None = None) -> ImpactReport:
        """Measure the effect of a change in the days after it, by default in the period of the ticket.

        A measurement that is not complete, or over another period, is preliminary and not stored. Raises
        InvalidInput if the change was not made, or was dismissed.
        """
        ticket = await self.ticket(ticket_id)
        if ticket.status not in ("implemented", "measured"):
            raise InvalidInput(
                f"the ticket {ticket.ticket_id} is {ticket.status}: mark it as implemented first"
            )
        return await self.measure(ticket, _days(measurement_period, ticket.measurement_period_days))

    async def measure(self, ticket: Ticket, days: int) -> ImpactReport:
        """As `measure_impact`, for a ticket whose change was made."""
        now, start = self._clock(), cast(datetime, ticket.implemented_at)
        end = start + timedelta(days=days)
        planned = ticket.measurement_period_days
        counts = now >= end and days in (planned, LATER * planned)
        period = AnalysisPeriod(start=start, end=max(start, min(end, now, await self._held_until(ticket))))
        found, turns = None, 0
        if period.end > start:
            bounds = (period.start, period.end)
            found = await estimate(self._data, self.tenant_id, ticket.metric, *bounds, ticket.holdback)
            turns = await self._data.count_turns(self.tenant_id, *bounds)
        kept = ticket.holdback.share if ticket.holdback is not None else 0.0
        value = self._settings.impact.answer_value
        report = impact_report(
            ticket,
            period,
            found,
            turns=round((1.0 - kept) * turns),
            answer_value=value,
            counts=counts,
            now=now,
        )
        if counts:
            await self._tickets.add_impact(self.tenant_id, report)
            if ticket.status == "implemented":
                await self._change(ticket, ("implemented",), {"status": "measured"})
        return report

    async def _held_until(self, ticket: Ticket) -> datetime:
        """The end of the ticket's holdback, which may be earlier than planned."""
        if ticket.holdback is None:
            return self._clock()
        stored = await self._data.holdback(self.tenant_id)
        same = stored is not None and stored.started_at == ticket.holdback.started_at
        return stored.ends_at if same and stored is not None else ticket.holdback.ends_at

    async def calculate_cumulative_roi(
        self, metric: str | None = None, *, until: datetime | None = None
    ) -> ROISummary:
        """The shrunk sum of the measured effects on a metric, by default that of the settings.

        The newest measurement of a ticket counts, of those before `until`. Dismissed changes are not added.
        Raises InvalidInput.
        """
        name = metric or self._settings.impact.metric
        metric_of(name)
        tickets = await self.tickets(limit=MAX_TICKETS)
        impacts = await self._tickets.impacts(self.tenant_id)
        impacts = [one for one in impacts if until is None or one.measured_at < until]
        return summarize(tickets, impacts, name, answer_value=self._settings.impact.answer_value)


def _known(impact: EstimatedImpact | None) -> str | None:
    """The metric of an estimate, if it can be measured by user."""
    return impact.metric if impact is not None and impact.metric in METRICS else None


def _days(given: int | None, default: int) -> int:
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MAX_DAYS:
        raise InvalidInput(f"measurement_period is a number of days from 1 to {MAX_DAYS}, not {given!r:.40}")
    return given


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT_CHARS:
        raise InvalidInput(f"{what} is a text of 1 to {MAX_TEXT_CHARS:,} characters")
    return replace_unfit(value)
