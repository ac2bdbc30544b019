"""Recommendations from the alerts, trends and curves of an analysis. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from karen_learner.improvement.curves import MORE_LABELS
from karen_learner.records.improvement import (
    AnalysisResults,
    Difficulty,
    EstimatedImpact,
    MetricTrend,
    Priority,
    Recommendation,
    Support,
)

MAX_SKIPPED = 0.01
"""The share of skipped log entries from which their repair is recommended."""


class Advice(NamedTuple):
    """Actions for a metric that is too bad or declines."""

    difficulty: Difficulty
    actions: tuple[str, ...]


UNDERSTANDING = Advice(
    "MEDIUM",
    (
        "Read the turns of the evidence: look for one intent, or one phrase, that fails",
        "Collect corrections, or add labelled texts of these intents with `karen-learner ingest`",
        "Run `karen-learner learn` and read its verdict",
    ),
)
ADVICE: Mapping[str, Advice] = {
    "intent_accuracy": UNDERSTANDING,
    "sentiment_accuracy": UNDERSTANDING,
    "entity_accuracy": UNDERSTANDING,
    "correction_rate": UNDERSTANDING,
    "out_of_scope_rate": Advice(
        "MEDIUM",
        (
            "Read the turns out of scope: people may ask for a new topic",
            "Add an intent with labelled texts for it, or an answer that names the topics you serve",
        ),
    ),
    "fallback_rate": Advice(
        "LOW",
        (
            "Run `karen-learner doctor`: a model that cannot be loaded is answered for by the fallback",
            "Look for slow analyses: after `analysis.timeout_s` the fallback answers",
        ),
    ),
    "failed_cycles": Advice("LOW", ("Read the error of the last cycle with `karen-learner show`",)),
    "conflict_rate": Advice(
        "MEDIUM",
        (
            "Decide the conflicts with `karen-learner quarantine`",
            "Explain the labels that people confuse to those who label",
        ),
    ),
    "success_rate": Advice(
        "MEDIUM",
        (
            "Compare the strategies with `karen-learner strategies`",
            "Read the evidence: look for one error type or one strategy that fails",
        ),
    ),
    "cost": Advice("MEDIUM", ("Answer frequent questions without an LLM", "Compare the cost by strategy")),
    "latency_ms": Advice(
        "MEDIUM", ("Look for the slow strategy or agent", "Answer slow cases by a fallback")
    ),
    "approval_rate": Advice(
        "MEDIUM",
        (
            "Read the entries of the evidence: look for the reasons of refusals",
            "Replace the templates and methods with the lowest effectiveness",
        ),
    ),
}
OTHER = Advice("MEDIUM", ("Read the evidence: look for a common cause", "Compare with the last good period"))


def recommend(
    results: AnalysisResults, *, labels: EstimatedImpact | None, cost: EstimatedImpact | None
) -> Iterator[Recommendation]:
    """The recommendations of an analysis, one for each metric. `labels` and `cost` are from curves.

    HIGH: a metric is critical, or misses its limit and declines. MEDIUM: it does one of both.
    """
    trends = {f"{one.component}.{one.metric}": one for one in results.trends}
    messages: dict[str, list[str]] = {}
    critical = set()
    for alert in results.alerts:
        messages.setdefault(alert.reading, []).append(alert.message)
        if alert.level == "critical":
            critical.add(alert.reading)
    for reading, found in messages.items():
        if (trend := trends.get(reading)) is not None:
            is_urgent = reading in critical or len(found) > 1
            impact = labels if reading == "learning.accuracy" else None
            yield _of_metric(results, reading, trend, found, is_urgent, impact)
    yield from _of_curves(results, labels, cost)
    yield from _of_data_quality(results)


def _of_metric(
    results: AnalysisResults,
    reading: str,
    trend: MetricTrend,
    messages: list[str],
    is_urgent: bool,
    impact: EstimatedImpact | None,
) -> Recommendation:
    advice = ADVICE.get(trend.metric, OTHER)
    verb = "Stop the decline of" if trend.trend_direction == "declining" else "Improve"
    return _made(
        results,
        category=trend.component,
        metric=reading,
        priority="HIGH" if is_urgent else "MEDIUM",
        title=f"{verb} {trend.metric} of {trend.component}",
        description="; ".join(messages),
        action_items=advice.actions,
        difficulty=advice.difficulty,
        impact=impact,
        evidence=trend.evidence,
    )


def _of_curves(
    results: AnalysisResults, labels: EstimatedImpact | None, cost: EstimatedImpact | None
) -> Iterator[Recommendation]:
    if labels is not None and "learning" in results.components:
        yield _made(
            results,
            category="learning",
            metric="labels",
            priority="MEDIUM",
            title=f"Label {MORE_LABELS:.0%} more texts",
            description=f"The accuracy still rises with the number of labels ({labels.source}).",
            action_items=("Ask people for corrections", "Import labelled texts with `karen-learner ingest`"),
            difficulty="MEDIUM",
            impact=labels,
            evidence=results.components["learning"].evidence,
        )
    if cost is not None and "answering" in results.components:
        yield _made(
            results,
            category="answering",
            metric="llm_rate",
            priority="LOW",
            title="Answer more questions without an LLM",
            description=f"The cost of an answer rises with the share of LLMs ({cost.source}).",
            action_items=ADVICE["cost"].actions,
            difficulty=ADVICE["cost"].difficulty,
            impact=cost,
            evidence=results.components["answering"].evidence,
        )


def _of_data_quality(results: AnalysisResults) -> Iterator[Recommendation]:
    quality = results.data_quality
    if quality.note is None or quality.skipped <= MAX_SKIPPED * quality.entries:
        return
    reason, count = max(quality.reasons.items(), key=lambda item: item[1])
    yield _made(
        results,
        category="data quality",
        metric="skipped_entries",
        priority="MEDIUM" if quality.skipped > 0.1 * quality.entries else "LOW",
        title="Mend the log entries of the host",
        description=f"{quality.note} The most frequent reason ({count:,} times): {reason}",
        action_items=("Compare the entries with improvement/decision.schema.json", "Import them again"),
        difficulty="LOW",
        impact=None,
        evidence=Support(
            numbers={"entries": quality.entries, "skipped": quality.skipped},
            query=f"karen-learner performance {results.tenant_id}",
        ),
    )


def _made(
    results: AnalysisResults,
    *,
    category: str,
    metric: str,
    priority: Priority,
    title: str,
    description: str,
    action_items: tuple[str, ...],
    difficulty: Difficulty,
    impact: EstimatedImpact | None,
    evidence: Support,
) -> Recommendation:
    return Recommendation(
        tenant_id=results.tenant_id,
        category=category,
        metric=metric,
        priority=priority,
        title=title,
        description=description,
        action_items=action_items,
        estimated_impact=impact,
        implementation_difficulty=difficulty,
        created_at=results.created_at,
        evidence=evidence,
    )
