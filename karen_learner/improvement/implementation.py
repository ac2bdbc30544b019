"""Metrics before and after a recommendation was implemented. Pure. A comparison in time proves no cause."""

from __future__ import annotations

from datetime import datetime, timedelta

from karen_learner.errors import InvalidInput
from karen_learner.improvement.roi import calculate_roi
from karen_learner.improvement.samples import AFTER, BEFORE, Metric, Samples, Span
from karen_learner.improvement.trends import change_of
from karen_learner.records.improvement import ImpactMetrics, Recommendation

MAX_DAYS = 14.0
MIN_DAYS = 1.0
COST = "cost"


def measured_span(recommendation: Recommendation, now: datetime) -> Span:
    """The periods of equal length before and after the implementation: at most 14 days.

    Raises InvalidInput if it is not implemented, or less than a day ago.
    """
    at = recommendation.implemented_at
    if at is None:
        raise InvalidInput(
            f"the recommendation {recommendation.id} is {recommendation.status}: mark it as implemented first"
        )
    days = min(MAX_DAYS, (now - at) / timedelta(days=1))
    if days < MIN_DAYS:
        raise InvalidInput(
            f"the recommendation {recommendation.id} was implemented less than a day ago: wait"
        )
    length = timedelta(days=days)
    return Span(at - length, at, at + length)


def impact_metrics(recommendation: Recommendation, samples: Samples, span: Span) -> ImpactMetrics:
    """The means of all metrics of a component in both periods, and the change of the recommended metric.

    `improvement_percentage` is positive if the metric became better. `measurement_confidence` is one minus
    the p-value of its change, 0 with too little data.
    """
    name = recommendation.metric.rpartition(".")[2]
    metric = next((one for one in samples.metrics if one.name == name), None)
    change = None if metric is None else change_of(samples.sums(name), metric)
    percentage = None if change is None else change.percentage
    if percentage is not None and metric is not None and metric.better == "lower":
        percentage = -percentage
    return ImpactMetrics(
        recommendation_id=recommendation.id,
        implementation_details=recommendation.implementation_details,
        before_metrics=_means(samples, BEFORE),
        after_metrics=_means(samples, AFTER),
        improvement_percentage=percentage,
        roi_calculation=calculate_roi(
            {"cost": _total(samples, BEFORE)},
            {"cost": _total(samples, AFTER), "days": (span.end - span.split) / timedelta(days=1)},
        ),
        measurement_confidence=0.0 if change is None or change.p is None else 1.0 - change.p,
        measurement_period_days=(span.end - span.split) / timedelta(days=1),
    )


def _means(samples: Samples, side: int) -> dict[str, float | None]:
    return {one.name: samples.mean(one.name, side) for one in samples.metrics}


def _total(samples: Samples, side: int) -> float:
    """The total cost of a period; 0 for a component without costs."""
    if Metric(COST, "lower", is_share=False) not in samples.metrics:
        return 0.0
    return samples.total(COST, side)
