"""The accuracy without labels, from the calibrated confidences of the answers.

The source is CBPE of NannyML (`nannyml.performance_estimation.confidence_based`): the expected share of right
answers is the mean of calibrated confidences. Two calibrations bound it. The temperature of the model holds
for texts that are harder throughout, such as those with typing errors. The shares of right answers by
confidence, on held-out gold, hold for texts like the gold. The estimate lies between the two.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.textcat.calibration import Calibration
from karen_learner.metrics import Z_95
from karen_learner.monitoring.readings.sources import MIN_OBSERVATIONS, ONE_SIDED, Sources
from karen_learner.records.readings import Reading

MISSED = 2.5
"""Accepted foreign texts for each one that is found out of scope, at most: a recall of 0.3."""
DEPENDENCE = 1.5
"""The factor of the variance, because the errors of one intent depend on each other."""
BIN_WEIGHT = 2.0 / 3.0
"""The weight of the bins in the estimate. `benchmarks/label_free.py` measures it."""
FALSE_ALARM_RATE = 0.05
MIN_DEVIANCE = 3.84
"""Twice the gain in log-likelihood by which unknown intents count: 5 % of windows without any reach it."""
MIXTURE_STEPS = 100

Doubles = NDArray[np.float64]


def estimated_accuracy(sources: Sources) -> Reading:
    """The expected share of right answers among the in-scope answers of the newest version.

    It needs no labels, and is a reason to ask for labels, never one to roll back. More out-of-scope turns
    than expected lower the bound, because foreign texts may be among the accepted ones. `measured` is the
    accuracy of the turns with outcomes, which people select.
    """
    version = sources.turns[-1].version if sources.turns else None
    answered = [one for one in sources.turns if one.version == version and not one.degraded]
    inside = np.array([one.confidence for one in answered if not one.out_of_scope])
    outside = np.array([one.confidence for one in answered if one.out_of_scope])
    count = len(inside)
    if version is None or count < MIN_OBSERVATIONS:
        return sources.reading(
            "estimated_accuracy", None, unit="share", direction="lower_is_worse", observations=count
        )
    value, low, high = estimate(inside, outside, sources.calibration)
    scored = [one.score or 0.0 for one in sources.scored()]
    return sources.reading(
        "estimated_accuracy",
        value,
        unit="share",
        direction="lower_is_worse",
        interval=(low, high),
        observations=count,
        false_alarms_per_month=ONE_SIDED * sources.windows_per_month([one.at for one in answered]),
        detail={
            "out_of_scope": len(outside),
            "measured": sum(scored) / len(scored) if scored else None,
            "outcomes": len(scored),
        },
    )


def estimate(
    confidences: Doubles, outside: Doubles, calibration: Calibration | None
) -> tuple[float, float, float]:
    """The accuracy of in-scope answers with these confidences, and its 95 % interval.

    `outside` are the confidences of the other answers. The interval has the errors of the window and of the
    bins, the distance of both calibrations, and the accepted foreign texts.
    """
    count = len(confidences)
    by_scale = float(confidences.mean())
    by_bins, error = by_scale, 0.0
    rate = FALSE_ALARM_RATE
    if calibration is not None and calibration.bins:
        by_bins, error = _by_bins(confidences, calibration)
        rate = calibration.false_alarm_rate or 0.0
    low, high = min(by_scale, by_bins), max(by_scale, by_bins)
    value = BIN_WEIGHT * by_bins + (1.0 - BIN_WEIGHT) * by_scale
    half = Z_95 * math.sqrt(DEPENDENCE * (low * (1.0 - low) / count + error))
    every = np.concatenate([confidences, outside])
    excess = max(0.0, len(outside) - rate * len(every)) / count
    share = _foreign_share(every, calibration)
    found = len(outside) - rate * (1.0 - share) * len(every)
    foreign = min(1.0, max(0.0, share * len(every) - max(0.0, found)) / count)
    most_foreign = min(1.0, max(foreign, MISSED * excess))
    return value * (1.0 - foreign), max(0.0, low - half - value * most_foreign), min(1.0, high + half)


def _foreign_share(confidences: Doubles, calibration: Calibration | None) -> float:
    """The share of texts of unknown intents among all turns, by their confidences; 0 if it is not shown."""
    if calibration is None or not calibration.scope_bins:
        return 0.0
    limits = np.array([one.most for one in calibration.scope_bins[:-1]])
    used = np.bincount(np.searchsorted(limits, confidences), minlength=len(limits) + 1)
    known, foreign = (
        np.array([getattr(one, name) + 0.5 for one in calibration.scope_bins])
        for name in ("known", "foreign")
    )
    known, foreign = known / known.sum(), foreign / foreign.sum()
    share = 0.5
    for _ in range(MIXTURE_STEPS):
        likelihood = share * foreign / (share * foreign + (1.0 - share) * known)
        share = float(used @ likelihood) / len(confidences)
    deviance = 2.0 * float(used @ np.log((share * foreign + (1.0 - share) * known) / known))
    return share if deviance >= MIN_DEVIANCE else 0.0


def _by_bins(confidences: Doubles, calibration: Calibration) -> tuple[float, float]:
    """The mean share of right answers of the bins, and its variance, of the held-out gold."""
    limits = np.array([one.most for one in calibration.bins[:-1]])
    texts = np.array([one.texts for one in calibration.bins], dtype=np.float64)
    right = np.array([one.right for one in calibration.bins], dtype=np.float64)
    shares = (right + 0.5) / (texts + 1.0)
    used = np.bincount(np.searchsorted(limits, confidences), minlength=len(texts)) / len(confidences)
    return float(used @ shares), float((used**2) @ (shares * (1.0 - shares) / texts))
