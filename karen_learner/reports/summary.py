"""The document of a report from analyses, recommendations and measured effects."""

from __future__ import annotations

import math
from collections.abc import Sequence

from karen_learner.records.improvement import (
    AnalysisResults,
    ImpactReport,
    MetricTrend,
    Recommendation,
    ROISummary,
    Ticket,
)
from karen_learner.records.period_reports import Change, CostItem, OpenDecision, PeriodReport, ReportMetadata
from karen_learner.reports.explaining import effect_name
from karen_learner.reports.wording import change_text, metric_name, money, plural, unit_of, value_text

RANKS = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
LOWER_IS_BETTER = ("cost", "costs", "ms", "error", "errors", "fallback", "failure", "latency", "correction")


def make_document(
    metadata: ReportMetadata,
    results: AnalysisResults,
    recommendations: Sequence[Recommendation] = (),
    *,
    tickets: Sequence[Ticket] = (),
    impacts: Sequence[ImpactReport] = (),
    roi: ROISummary | None = None,
) -> PeriodReport:
    """The document. It shows trends whose direction is known, and effects whose interval excludes zero.

    It shows the newest effect of each ticket that was measured in the period. Later ones are left out.
    """
    titles = {ticket.ticket_id: ticket.title for ticket in tickets}
    start, end = metadata.analysis_period.start, metadata.analysis_period.end
    impacts = [one for one in impacts if one.measured_at < end]
    newest = {one.ticket_id: one for one in sorted(impacts, key=lambda one: one.measured_at)}
    shown = [_measured(one, titles) for one in newest.values() if one.measured_at >= start]
    effects = [change for change in shown if change is not None]
    better = [one for one in effects if _is_better(one)] + _moved(results.trends, "improving")
    worse = [one for one in effects if not _is_better(one)] + _moved(results.trends, "declining")
    note = results.data_quality.note
    document = PeriodReport(
        report_metadata=metadata.model_copy(
            update={
                "notes": metadata.notes if note is None else (note, *metadata.notes),
                "failed": {**results.failed, **metadata.failed},
            }
        ),
        system_health=results.overall_health,
        headline="",
        better=tuple(better),
        worse=tuple(worse),
        roi_estimate=roi,
        costs=tuple(_costs(results, tickets, metadata)),
        decisions=tuple(_decisions(results, recommendations, tickets, metadata.currency)),
        analysis=results,
        recommendations=tuple(recommendations),
        tickets=tuple(tickets),
        impacts=tuple(impacts),
    )
    return document.model_copy(update={"headline": _headline(document)})


def is_empty(results: AnalysisResults) -> bool:
    """Whether the period has no observation."""
    return not any(one.observations for one in results.components.values())


def _headline(document: PeriodReport) -> str:
    """The answers of the page in a few sentences."""
    if is_empty(document.analysis):
        sentences = ["Nothing was observed in this period."]
    elif document.better or document.worse:
        sentences = [
            f"{_things(len(document.better))} got better, {_things(len(document.worse)).lower()} got worse."
        ]
        if not document.worse:
            sentences = [f"{_things(len(document.better))} got better, nothing measurably got worse."]
    elif all(trend.before is None for trend in document.analysis.trends):
        sentences = ["There is no earlier period to compare with."]
    else:
        sentences = ["No clear change is shown."]
    roi, currency = document.roi_estimate, document.report_metadata.currency
    if roi is not None and roi.measured and roi.roi.gain:
        sentences.append(_worth(roi, currency))
    elif roi is not None and roi.cumulative is not None and roi.metric:
        moved = change_text(roi.cumulative, unit_of(roi.metric))
        sentences.append(f"All changes measured so far: {effect_name(roi.metric)} {moved}.")
    spent = sum(item.amount for item in document.costs if item.unit == currency)
    if spent:
        sentences.append(f"The period cost {money(spent, currency)}.")
    waiting = len(document.decisions)
    sentences.append(
        f"{plural(waiting, 'decision')} {'waits' if waiting == 1 else 'wait'}."
        if waiting
        else "Nothing waits for a decision."
    )
    return " ".join(sentences)


def _worth(roi: ROISummary, currency: str) -> str:
    if roi.roi.net is None or (roi.costs_missing and not roi.costs_recorded):
        gain = money(roi.roi.gain, currency)
        return f"All changes measured so far brought {gain}; their cost is not recorded."
    partly = " of the recorded costs" if roi.costs_missing else ""
    return f"All changes measured so far brought {money(roi.roi.net, currency)} net{partly}."


def _things(count: int) -> str:
    return {0: "Nothing", 1: "One thing"}.get(count) or plural(count, "thing")


def _moved(trends: Sequence[MetricTrend], direction: str) -> list[Change]:
    """The trends of a direction, the most certain first."""
    found = [trend for trend in trends if trend.trend_direction == direction]
    found.sort(key=lambda trend: (1.0 if trend.adjusted_p is None else trend.adjusted_p, trend.metric))
    return [
        Change(
            title=f"{metric_name(trend.metric)} ({trend.component})",
            metric=trend.metric,
            before=trend.before,
            after=trend.after,
            change=None if trend.before is None or trend.after is None else trend.after - trend.before,
            low=trend.low,
            high=trend.high,
            causal=False,
            evidence=trend.evidence,
        )
        for trend in found
    ]


def _measured(impact: ImpactReport, titles: dict[str, str]) -> Change | None:
    """The effect of a ticket; None if its interval includes zero, or none was measured."""
    effect = impact.effect
    if effect is None or effect.low <= 0 <= effect.high:
        return None
    return Change(
        title=effect_name(effect.metric),
        cause=titles.get(impact.ticket_id, impact.ticket_id),
        metric=effect.metric,
        before=effect.before,
        after=effect.after,
        change=effect.change,
        low=effect.low,
        high=effect.high,
        causal=effect.causal,
        evidence=impact.evidence,
        effect=effect,
        measured=impact.period,
    )


def _is_better(change: Change) -> bool:
    lower = any(word in LOWER_IS_BETTER for word in change.metric.split("_"))
    return ((change.change or 0.0) > 0) != lower


def _costs(results: AnalysisResults, tickets: Sequence[Ticket], metadata: ReportMetadata) -> list[CostItem]:
    """Totals of the period: mean costs by the number of observations, and the work on changes."""
    units = {"cost": metadata.currency, "duration_s": "seconds", "tokens": "tokens"}
    found = []
    for trend in results.trends:
        count = trend.evidence.numbers.get("observations")
        if trend.metric in units and trend.after is not None and isinstance(count, (int, float)):
            amount = trend.after * count
            if not math.isfinite(amount):
                continue
            found.append(CostItem(name=_cost_name(trend), amount=amount, unit=units[trend.metric]))
    period = results.analysis_period
    spent = [
        ticket.cost
        for ticket in tickets
        if ticket.cost is not None
        and period.start <= (ticket.implemented_at or ticket.opened_at) < period.end
    ]
    if spent:
        work = f"Work on {plural(len(spent), 'change')}"
        found.append(CostItem(name=work, amount=sum(spent), unit=metadata.currency))
    return found


def _cost_name(trend: MetricTrend) -> str:
    if (trend.component, trend.metric) == ("learning", "duration_s"):
        return "Computing time for training the bot"
    name = "Computing time" if trend.metric == "duration_s" else metric_name(trend.metric)
    return f"{name} ({trend.component})"


def _advice(one: Recommendation, trend: MetricTrend | None, currency: str) -> OpenDecision:
    """The decision about a recommendation: the present value of its metric, and the first step."""
    title, reason = one.title, one.description
    if trend is not None:
        unit = unit_of(trend.metric)
        title = title.replace(trend.metric, metric_name(trend.metric).lower())
        before = "" if trend.before is None else f", before {value_text(trend.before, unit, currency)}"
        step = f" First step: {one.action_items[0]}." if one.action_items else ""
        reason = f"It is {value_text(trend.after, unit, currency)}{before}.{step}"
    return OpenDecision(
        title=title, reason=reason, priority=one.priority, source="recommendation", source_id=one.id
    )


def _decisions(
    results: AnalysisResults,
    recommendations: Sequence[Recommendation],
    tickets: Sequence[Ticket],
    currency: str,
) -> list[OpenDecision]:
    """Open recommendations and critical alerts, the most important first."""
    trends = {f"{trend.component}.{trend.metric}": trend for trend in results.trends}
    planned = {ticket.recommendation_id for ticket in tickets}
    advised = {one.metric for one in recommendations}
    found = [
        OpenDecision(
            title=alert.message,
            reason=f"critical alert since {alert.at.day} {alert.at:%B, %H:%M} UTC",
            priority="HIGH",
            source="alert",
            source_id=alert.reading,
        )
        for alert in results.alerts
        if alert.level == "critical" and alert.reading not in advised
    ]
    found += [
        _advice(one, trends.get(one.metric), currency)
        for one in recommendations
        if one.status == "open" and one.id not in planned
    ]
    return sorted(found, key=lambda one: RANKS[one.priority])
