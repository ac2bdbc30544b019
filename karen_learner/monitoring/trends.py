"""Robust trends of readings, and the time at which they pass a limit. Pure.

The slope is the median of the slopes of all pairs of points (Theil 1950; Sen, *Estimates of the regression
coefficient based on Kendall's tau*, JASA 1968). Up to 29 % of the points may be arbitrary. The interval of
the slope is Sen's, from the variance of Kendall's statistic. It assumes independent errors: points of a
reading whose windows overlap depend on each other, so take one point for each window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from karen_learner.metrics import Z_95

MIN_POINTS = 8
MAX_POINTS = 240
"""Points of a history. A longer one keeps every second point, so that the distances double."""


@dataclass(frozen=True)
class Trend:
    """A line through points. Slopes are changes a day, with a 95 % interval. `level` is the value now."""

    slope: float
    low: float
    high: float
    level: float
    points: int
    days: float


@dataclass(frozen=True)
class Forecast:
    """Days until a limit is passed at the present pace, with an interval; `latest` may be infinite."""

    days: float
    earliest: float
    latest: float


def theil_sen(days: Sequence[float], values: Sequence[float]) -> Trend | None:
    """The trend of values at times in days, ascending. None below `MIN_POINTS` finite points.

    The cost grows with the square of the number of points: pass `MAX_POINTS` at most.
    """
    at, y = np.asarray(days, dtype=float), np.asarray(values, dtype=float)
    usable = np.isfinite(at) & np.isfinite(y)
    at, y = at[usable], y[usable]
    first, second = np.triu_indices(len(at), 1)
    distance = at[second] - at[first]
    later = distance > 0.0
    if len(at) < MIN_POINTS or not later.any():
        return None
    slopes = np.sort((y[second] - y[first])[later] / distance[later])
    spread = Z_95 * math.sqrt(_kendall_variance(y))
    below = int(max(0.0, math.floor((len(slopes) - spread) / 2.0)))
    above = int(min(len(slopes) - 1.0, math.ceil((len(slopes) + spread) / 2.0)))
    slope = float(np.median(slopes))
    level = float(np.median(y - slope * at)) + slope * float(at[-1])
    low, high = float(slopes[below]), float(slopes[above])
    return Trend(slope, low, high, level, len(at), float(at[-1] - at[0]))


def forecast(trend: Trend, limit: float, *, falling: bool) -> Forecast | None:
    """The days until a falling (or rising) value passes a limit; None if its direction is not certain.

    0 days if it has passed the limit already.
    """
    sign = -1.0 if falling else 1.0
    slope, slowest, fastest = sign * trend.slope, sign * trend.low, sign * trend.high
    slowest, fastest = min(slowest, fastest), max(slowest, fastest)
    distance = sign * (limit - trend.level)
    if distance <= 0.0:
        return Forecast(0.0, 0.0, 0.0)
    if slowest <= 0.0 or slope <= 0.0:
        return None
    return Forecast(distance / slope, distance / fastest, distance / slowest)


@dataclass(eq=False)
class History:
    """The values of one reading over time: at most `MAX_POINTS`, at distances of at least `spacing`."""

    spacing: timedelta
    times: list[datetime] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, at: datetime, value: float) -> None:
        """Add a value; one that comes too soon after the last one, or before it, is left out."""
        if not math.isfinite(value) or (self.times and at - self.times[-1] < self.spacing):
            return
        self.times.append(at)
        self.values.append(value)
        if len(self.times) > MAX_POINTS:
            self.times, self.values, self.spacing = self.times[::2], self.values[::2], self.spacing * 2

    def trend(self) -> Trend | None:
        """The trend of all values."""
        if not self.times:
            return None
        days = [(one - self.times[0]) / timedelta(days=1) for one in self.times]
        return theil_sen(days, self.values)


def _kendall_variance(values: np.ndarray) -> float:
    """The variance of Kendall's statistic without a trend, corrected for equal values."""
    count = len(values)
    ties = np.unique(values, return_counts=True)[1]
    total = count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())
    return max(total / 18.0, 0.0)
