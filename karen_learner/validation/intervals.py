"""How sure a score is: 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from karen_learner.validation.outcomes import Matrix, TaskOutcome

Interval = tuple[float, float]

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""

RESAMPLES = 1000
SEED = 0
_PERCENTILES = (2.5, 97.5)
_CHUNK = 100


def wilson(successes: int, trials: int, *, z: float = Z_95) -> Interval:
    """The score interval of a proportion (Wilson, 1927), without continuity correction."""
    if trials == 0:
        return (0.0, 1.0)
    share, shrink = successes / trials, z * z / trials
    centre = (share + shrink / 2.0) / (1.0 + shrink)
    half = z * math.sqrt(share * (1.0 - share) / trials + shrink / (4.0 * trials)) / (1.0 + shrink)
    return (max(0.0, centre - half), min(1.0, centre + half))


def bootstrap(
    outcomes: Sequence[TaskOutcome], *, texts: int, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """Percentile interval (Efron, 1979) of the mean task score, weighted by the texts of each task.

    Resamples texts, with all their tasks together; `texts` is the size of the holdout. A resample
    without any text of these tasks is left out. With one outcome, the interval of its own score.
    """
    rng = np.random.default_rng(seed)
    scores: list[float] = []
    for start in range(0, resamples, _CHUNK):
        draws = rng.multinomial(texts, np.full(texts, 1.0 / texts), size=min(_CHUNK, resamples - start))
        scores.extend(_resampled(outcomes, draws.astype(np.float64)))
    if not scores:
        return (0.0, 1.0)
    low, high = np.percentile(scores, _PERCENTILES)
    return (float(low), float(high))


def _resampled(outcomes: Iterable[TaskOutcome], draws: Matrix) -> Matrix:
    """The weighted score of each resample. `draws` (resamples, texts): how often each text is in it."""
    points, weights = np.zeros(len(draws)), np.zeros(len(draws))
    for outcome in outcomes:
        drawn = draws[:, outcome.rows]
        count = drawn.sum(axis=1)
        weights += count
        points += _points(outcome, drawn, count)
    kept = weights > 0
    return np.asarray(points[kept] / weights[kept], dtype=np.float64)


def _points(outcome: TaskOutcome, drawn: Matrix, count: Matrix) -> Matrix:
    """The score of each resample times its number of texts."""
    sums = drawn @ outcome.values
    if outcome.task != "entities":
        return np.asarray(sums, dtype=np.float64)
    total = 2.0 * sums[:, 0] + sums[:, 1] + sums[:, 2]
    scores = np.divide(2.0 * sums[:, 0], total, out=np.ones(len(drawn)), where=total > 0)
    return np.asarray(scores * count, dtype=np.float64)
