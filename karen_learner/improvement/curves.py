"""Measured curves: the accuracy against the number of labels, and the cost against the share of LLMs. Pure.

Lines by least squares, with the 95 % interval of their slope (Student's t). An estimated impact comes from
such a curve of the tenant itself, or there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from karen_learner.improvement.trends import ALPHA
from karen_learner.metrics import student_quantile
from karen_learner.records import LearningCycleResult
from karen_learner.records.improvement import EstimatedImpact

MIN_POINTS = 4
MORE_LABELS = 0.25
"""The share of more labels whose effect is estimated."""


class Line(NamedTuple):
    """A slope with its interval."""

    slope: float
    low: float
    high: float
    points: int


def line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """The line through points. None below `MIN_POINTS`, or without different values of `x`."""
    at, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(at) < MIN_POINTS:
        return None
    deviations = at - at.mean()
    spread = float((deviations**2).sum())
    if spread <= 0.0:
        return None
    slope = float((deviations * (values - values.mean())).sum()) / spread
    residuals = values - values.mean() - slope * deviations
    error = math.sqrt(float((residuals**2).sum()) / (len(at) - 2) / spread)
    half = student_quantile(1.0 - ALPHA / 2.0, len(at) - 2) * error
    return Line(slope, slope - half, slope + half, len(at))


def labels_impact(cycles: Sequence[LearningCycleResult]) -> EstimatedImpact | None:
    """The gain of accuracy from a quarter more labels, if the accuracy is known to rise with them.

    `cycles` are those of a tenant, oldest first. The accuracy rises with the logarithm of the number of
    learned examples.
    """
    learned, x, y = 0, list[float](), list[float]()
    for one in cycles:
        if one.status != "deployed":
            continue
        learned = one.training_examples if one.mode == "full" else learned + one.training_examples
        if learned and one.validation is not None and one.validation.accuracy is not None:
            x.append(math.log(learned))
            y.append(one.validation.accuracy)
    found = line(x, y)
    if found is None or found.low <= 0.0:
        return None
    more = math.log1p(MORE_LABELS)
    return EstimatedImpact(
        metric="learning.accuracy",
        change=found.slope * more,
        low=found.low * more,
        high=found.high * more,
        source=f"accuracy against labels in {found.points} deployed cycles",
    )


def cost_impact(shares: Sequence[float], costs: Sequence[float]) -> EstimatedImpact | None:
    """The change of the cost of an answer at the lowest share of LLMs, if the cost rises with it.

    `shares` and `costs` are daily means.
    """
    found = line(shares, costs)
    if found is None or found.low <= 0.0:
        return None
    less = float(min(shares) - np.mean(shares))
    return EstimatedImpact(
        metric="answering.cost",
        change=found.slope * less,
        low=found.high * less,
        high=found.low * less,
        source=f"cost against the share of LLMs on {found.points} days",
    )
