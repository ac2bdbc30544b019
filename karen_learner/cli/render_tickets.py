"""Tickets of changes and their measured effects, as tables and facts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from karen_learner.cli.output import text
from karen_learner.cli.tables import FittingTable, facts, utc_text
from karen_learner.records.improvement import Effect, ImpactReport, ROISummary, Ticket


def ticket_list(
    tickets: Sequence[Ticket], impacts: Sequence[ImpactReport], summary: ROISummary
) -> list[RenderableType]:
    """Tickets, one row each, and the sum of their effects."""
    newest = {one.ticket_id: one for one in impacts}
    rows = [_row(one, newest.get(one.ticket_id)) for one in tickets]
    if not rows:
        return [text("no ticket: a deployment opens one while `karen-learner run` runs")]
    table = FittingTable(rows, optional=["opened", "visible"], folded="change")
    return [table, facts(_sum(summary))]


def ticket_story(ticket: Ticket, impacts: Sequence[ImpactReport]) -> list[RenderableType]:
    """A ticket, and the conclusion of each measurement."""
    held = ticket.holdback
    shown = facts(
        {
            "ticket": text(ticket.ticket_id, "bold"),
            "change": ticket.title,
            "state": ticket.status,
            "metric": ticket.metric,
            "period": f"{ticket.measurement_period_days} days",
            "expected effect": _points(ticket.expected_effect),
            "smallest visible effect": _points(ticket.smallest_effect) or "unknown: too few data",
            "holdback": None if held is None else f"{held.share:.0%} of the users keep {held.version}",
            "cost": ticket.cost,
            "opened": utc_text(ticket.opened_at),
            "made": None if ticket.implemented_at is None else utc_text(ticket.implemented_at),
            "details": ticket.implementation_details,
        }
    )
    return [shown, *(text(f"{utc_text(one.measured_at)}  {one.conclusion}") for one in impacts)]


def _row(ticket: Ticket, report: ImpactReport | None) -> dict[str, object]:
    effect = None if report is None else report.effect
    return {
        "ticket": ticket.ticket_id,
        "change": ticket.title,
        "state": ticket.status,
        "opened": utc_text(ticket.opened_at),
        "metric": ticket.metric,
        "visible": _points(ticket.smallest_effect),
        "effect": None if effect is None else f"{_points(effect.change)} ({_interval(effect)})",
        "causal": None if effect is None else "yes" if effect.causal else "no",
    }


def _sum(summary: ROISummary) -> dict[str, object]:
    total = None
    if summary.cumulative is not None and summary.low is not None and summary.high is not None:
        total = f"{_points(summary.cumulative)} ({_points(summary.low)} to {_points(summary.high)})"
    return {
        "measured": f"{summary.measured} of {summary.tickets} tickets",
        f"sum of shrunk effects on {summary.metric}": total or "unknown: no measured change is in use",
        "sum of significant effects": _points(summary.sum_of_significant),
        "causal": ("yes" if summary.causal else "no") if total else None,
        "worth": summary.roi.gain if summary.roi.gain or summary.roi.cost else None,
        "cost": summary.roi.cost or None,
        "return": summary.roi.explanation if summary.roi.cost else None,
    }


def _points(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:+.1f} points"


def _interval(effect: Effect) -> str:
    return f"{100 * effect.low:+.1f} to {100 * effect.high:+.1f}"
