"""Analyses of performance, evidence, recommendations, tickets and measured effects for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType

from karen_learner.cli.output import text
from karen_learner.cli.tables import FittingTable, facts, utc_text
from karen_learner.records.decisions import LogReport
from karen_learner.records.improvement import (
    AnalysisResults,
    Effect,
    ImpactMetrics,
    ImpactReport,
    MetricTrend,
    Recommendation,
    ROISummary,
    Support,
    Ticket,
)

UNKNOWN = "unknown"
MAX_REASONS = 10


def analysis(results: AnalysisResults) -> Iterator[RenderableType]:
    """Health, components, trends and notes of an analysis."""
    period = results.analysis_period
    health = _words(results.overall_health)
    yield text(f"{results.tenant_id}, {period.start:%Y-%m-%d} to {period.end:%Y-%m-%d}: {health}", "bold")
    yield FittingTable(
        [
            {
                "component": name,
                "health": _words(one.system_health),
                "observations": one.observations,
                "reason": one.reasons[0] if one.reasons else None,
            }
            for name, one in results.components.items()
        ],
        folded="reason",
    )
    known = [one for one in results.trends if one.after is not None or one.before is not None]
    if known:
        yield FittingTable([_trend(one) for one in known], optional=("needed", "p"), folded="metric")
    for name, message in results.failed.items():
        yield text(f"{name} cannot be analysed: {message}", "red")
    if results.data_quality.note is not None:
        yield text(results.data_quality.note, "yellow")


def evidence_lines(found: Support) -> Iterator[RenderableType]:
    """Numbers and ids of an evidence, and the command that finds them."""
    for name, value in found.numbers.items():
        yield text(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    for kind in ("turn_ids", "cycle_ids", "entry_ids", "task_ids"):
        for one in getattr(found, kind):
            yield text(f"{kind.removesuffix('_ids')} {one}")
    yield text(found.query, "dim")


def recommendations(found: Sequence[Recommendation]) -> Iterator[RenderableType]:
    """Recommendations with their actions."""
    if not found:
        yield text("nothing is recommended")
    for one in found:
        yield text(f"{one.priority} {one.title} ({one.status}; {one.id})", "bold")
        yield text(f"  {one.description}")
        for item in one.action_items:
            yield text(f"  - {item}")
        if one.estimated_impact is not None:
            impact = one.estimated_impact
            interval = f"95 % interval {impact.low:+.3g} to {impact.high:+.3g}"
            yield text(f"  expected: {impact.metric} {impact.change:+.3g} ({interval}; {impact.source})")
        yield text(f"  {one.evidence.query}", "dim")


def impact_lines(found: ImpactMetrics) -> Iterator[RenderableType]:
    """Metrics before and after an implementation, and its return."""
    rows = [
        {"metric": name, "before": _number(value), "after": _number(found.after_metrics.get(name))}
        for name, value in found.before_metrics.items()
    ]
    yield FittingTable(rows)
    change = found.improvement_percentage
    known = "the improvement is unknown" if change is None else f"improvement {change:+.1f} %"
    confidence = f"confidence {found.measurement_confidence:.2f}"
    yield text(f"{known}, {confidence}, over {found.measurement_period_days:.1f} days; not causal")
    yield text(found.roi_calculation.explanation)


def log_report(report: LogReport) -> Iterator[RenderableType]:
    """Counts of an import of log entries, and the reasons of corrupt ones."""
    yield text(f"{report.entries:,} log entries read: {report.added:,} new, {report.duplicates:,} known")
    if report.corrupt:
        yield text(f"{report.corrupt:,} are corrupt and skipped:", "yellow")
        by_count = sorted(report.reasons.items(), key=lambda item: -item[1])
        for reason, count in by_count[:MAX_REASONS]:
            yield text(f"  {count:,} x {reason}")


def _trend(one: MetricTrend) -> dict[str, object]:
    return {
        "component": one.component,
        "metric": one.metric,
        "trend": one.trend_direction,
        "before": _number(one.before),
        "after": _number(one.after),
        "change": "-" if one.low is None or one.high is None else f"{one.low:+.3g} to {one.high:+.3g}",
        "p": _number(one.adjusted_p),
        "needed": _number(one.smallest_change),
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _words(health: str | None) -> str:
    return UNKNOWN if health is None else health.replace("_", " ")


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
