"""Random effects of several changes: their mean, their spread, and shrunk sums. Pure.

The model is normal-normal: each true effect is drawn from a normal distribution, and each measurement adds an
error of known size. For shrunk sums the spread has the uniform shrinkage prior. It is integrated out on a
grid (Daniels, *Canadian Journal of Statistics* 27, 1999). An estimate of a spread from few effects is often
zero. Given the data, the posterior of an effect does not depend on its selection (Dawid, *Selection paradoxes
of Bayesian inference*, 1994). So the choice of winners does not bias a sum of shrunk effects. It biases the
sum of measured effects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karen_learner.metrics import Z_95

Floats = NDArray[np.float64]

GRID = 200
SMALLEST_ERROR = 1e-9


@dataclass(frozen=True, kw_only=True)
class RandomEffects:
    """The common mean, its variance, and the variance of the true effect of a further change."""

    mean: float
    variance: float
    predictive_variance: float


@dataclass(frozen=True, kw_only=True)
class Cumulative:
    """A sum of shrunk effects with a 95 % interval, and the shrunk effects: (effects,)."""

    total: float
    low: float
    high: float
    shrunk: Floats


@dataclass(frozen=True, kw_only=True)
class _Posterior:
    """For each spread of the grid: its weight, the mean of the effects and the variance of that mean."""

    weight: Floats
    spread_squared: Floats
    mean: Floats
    variance: Floats


def random_effects(effects: Floats, errors: Floats) -> RandomEffects:
    """Mean and spread of effects with standard errors: (effects,), at least two.

    Method of moments (DerSimonian and Laird, *Controlled Clinical Trials* 7, 1986).
    """
    weight = 1.0 / np.maximum(errors, SMALLEST_ERROR) ** 2
    mean = weight @ effects / weight.sum()
    excess = weight @ (effects - mean) ** 2 - (len(effects) - 1)
    spread = max(0.0, float(excess / (weight.sum() - (weight**2).sum() / weight.sum())))
    weight = 1.0 / (1.0 / weight + spread)
    variance = float(1.0 / weight.sum())
    mean = float(weight @ effects / weight.sum())
    return RandomEffects(mean=mean, variance=variance, predictive_variance=variance + spread)


def cumulative_effect(effects: Floats, errors: Floats, chosen: NDArray[np.bool_]) -> Cumulative:
    """The sum of the shrunk effects that are `chosen`, shrunk towards the mean of all: (effects,).

    A single effect cannot be shrunk.
    """
    if len(effects) < 2:
        total, half = float(effects[chosen].sum()), Z_95 * float(errors[chosen].sum())
        return Cumulative(total=total, low=total - half, high=total + half, shrunk=effects.copy())
    grid = _posterior(effects, errors)
    variance = np.maximum(errors, SMALLEST_ERROR) ** 2
    kept = grid.spread_squared[:, None] / (grid.spread_squared[:, None] + variance)
    shrunk = grid.mean[:, None] + kept * (effects - grid.mean[:, None])
    totals = shrunk[:, chosen].sum(axis=1)
    pulled = (1.0 - kept)[:, chosen].sum(axis=1)
    within = (kept * variance)[:, chosen].sum(axis=1) + pulled**2 * grid.variance
    total = float(grid.weight @ totals)
    half = Z_95 * math.sqrt(float(grid.weight @ (within + (totals - total) ** 2)))
    return Cumulative(total=total, low=total - half, high=total + half, shrunk=grid.weight @ shrunk)


def _posterior(effects: Floats, errors: Floats) -> _Posterior:
    variance = np.maximum(errors, SMALLEST_ERROR) ** 2
    typical = len(variance) / (1.0 / variance).sum()
    share = (np.arange(GRID) + 0.5) / GRID
    spread_squared = typical * (1.0 - share) / share
    precision = 1.0 / (spread_squared[:, None] + variance)
    total = precision.sum(axis=1)
    mean = (precision @ effects) / total
    distance = (precision * (effects - mean[:, None]) ** 2).sum(axis=1)
    log_weight = 0.5 * (np.log(precision).sum(axis=1) - np.log(total) - distance)
    weight = np.exp(log_weight - log_weight.max())
    return _Posterior(
        weight=weight / weight.sum(), spread_squared=spread_squared, mean=mean, variance=1.0 / total
    )
