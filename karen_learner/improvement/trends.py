"""Changes of metrics between two periods: intervals, significance, and the power to show a change. Pure.

Observations of one person depend on each other. So the standard error of a difference comes from the
deviations of clusters (people) in both periods (Liang and Zeger, *Biometrika* 73, 1986). The p-values are
those of Student's t with one degree of freedom less than there are clusters. They are adjusted for the number
of metrics (Benjamini and Hochberg, *Journal of the Royal Statistical Society B* 57, 1995). If no metric
changed, one is told as changed with a probability of at most `ALPHA`. Among all changes that are told, the
expected share of false ones is at most `ALPHA`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from karen_learner.improvement.samples import AFTER, BEFORE, COUNT, SUM, Metric
from karen_learner.metrics import Interval, student_quantile
from karen_learner.records.improvement import TrendDirection

ALPHA = 0.05
POWER = 0.80
MIN_OBSERVATIONS = 20
MIN_CLUSTERS = 10
"""Observations and clusters of each period without which a change is unclear."""
NORMAL = NormalDist()


@dataclass(frozen=True)
class MetricChange:
    """The change of one metric. `p` is None with too little data; the bounds are those of 95 %."""

    before: float | None
    after: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    smallest: float | None = None
    observations: int = 0

    @property
    def difference(self) -> float | None:
        """`after - before`; None if one of them is unknown."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def percentage(self) -> float | None:
        """The change in percent of the value before; None without one, or if it is 0."""
        if self.before is None or self.difference is None or self.before == 0.0:
            return None
        found = 100.0 * self.difference / abs(self.before)
        return found if math.isfinite(found) else None


def change_of(sums: NDArray[np.float64], metric: Metric, *, tests: int = 1) -> MetricChange:
    """The change of a metric from its sums: an array of (period, count or sum, cluster).

    `tests` is the number of metrics that are tested together. The smallest change with 80 % power is that at
    the level of Bonferroni: corrected p-values never undercut it.
    """
    counts = sums[:, COUNT].sum(axis=1)
    before, after = (
        float(sums[period, SUM].sum() / counts[period]) if counts[period] else None
        for period in (BEFORE, AFTER)
    )
    clusters = int((sums[:, COUNT] > 0).any(axis=0).sum())
    fewest = min((sums[period, COUNT] > 0).sum() for period in (BEFORE, AFTER))
    known = MetricChange(before, after, observations=int(counts.sum()))
    if before is None or after is None or counts.min() < MIN_OBSERVATIONS or fewest < MIN_CLUSTERS:
        return known
    parts = [
        (sums[period, SUM] - mean * sums[period, COUNT]) / counts[period]
        for period, mean in ((BEFORE, before), (AFTER, after))
    ]
    variance = float(((parts[1] - parts[0]) ** 2).sum()) * clusters / (clusters - 1)
    if metric.is_share:
        variance = max(variance, _least_variance(sums))
    error, freedom = math.sqrt(variance), clusters - 1
    difference = after - before
    if error == 0.0:
        p = 1.0 if difference == 0.0 else 0.0
        return MetricChange(before, after, difference, difference, p, 0.0, known.observations)
    half = student_quantile(1.0 - ALPHA / 2.0, freedom) * error
    smallest = (
        student_quantile(1.0 - ALPHA / 2.0 / tests, freedom) + student_quantile(POWER, freedom)
    ) * error
    p = t_two_sided(difference / error, freedom)
    return MetricChange(before, after, difference - half, difference + half, p, smallest, known.observations)


def _least_variance(sums: NDArray[np.float64]) -> float:
    """The least variance of a difference of shares: that of one failure more than none in each period.

    It matters if all observations are alike: their deviations are 0, and still the share may have changed.
    """
    counts = sums[:, COUNT].sum(axis=1)
    share = 1.0 / (counts + 2.0)
    return float((share * (1.0 - share) / counts).sum())


def interval_of(sums: NDArray[np.float64], metric: Metric) -> Interval:
    """The 95 % interval of the mean of the period after; with one cluster, without bounds for an amount."""
    counts, totals = sums[AFTER, COUNT], sums[AFTER, SUM]
    count, clusters = counts.sum(), int((counts > 0).sum())
    mean = float(totals.sum() / count)
    least, most = (0.0, 1.0) if metric.is_share else (-math.inf, math.inf)
    if clusters < 2:
        return least, most
    variance = float((((totals - mean * counts) / count) ** 2).sum()) * clusters / (clusters - 1)
    if metric.is_share:
        variance = max(variance, (count + 1.0) / (count + 2.0) ** 3)
    half = student_quantile(1.0 - ALPHA / 2.0, clusters - 1) * math.sqrt(variance)
    return max(least, mean - half), min(most, mean + half)


def direction(change: MetricChange, adjusted_p: float | None, metric: Metric) -> TrendDirection:
    """The direction of a change.

    `stable` only if a change that matters would have been shown, and the interval excludes one.
    """
    difference, low, high = change.difference, change.low, change.high
    if difference is None or adjusted_p is None or change.smallest is None or low is None or high is None:
        return "unclear"
    if adjusted_p <= ALPHA and difference != 0.0:
        return "improving" if (difference > 0.0) == (metric.better == "higher") else "declining"
    relevant = metric.relevant_change(change.before or 0.0)
    return "stable" if max(change.smallest, -low, high) <= relevant else "unclear"


def adjust(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values after correction for their number (Benjamini and Hochberg 1995), in the same order.

    None, an unknown p-value, is not counted.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 1.0
    for rank in range(len(known), 0, -1):
        p, place = known[rank - 1]
        least = min(least, p * len(known) / rank)
        adjusted[place] = least
    return adjusted


def t_two_sided(statistic: float, freedom: int) -> float:
    """The two-sided p-value of Student's t, by its normal deviate (Wallace 1959), exact to 0.001."""
    root = math.sqrt(freedom * math.log1p(statistic * statistic / freedom))
    return 2.0 * NORMAL.cdf(-root * (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0))
