"""Health of metrics and components: intervals compared with limits. Pure.

A metric fails its limit only if its whole 95 % interval does. So few observations fail only by a large
distance, and many by a small one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from karen_learner.errors import InvalidInput
from karen_learner.metrics import Interval
from karen_learner.monitoring.thresholds import SEVERE_DISTANCE
from karen_learner.records.improvement import SystemHealth

DEFAULTS: Mapping[str, float] = {
    "intent_accuracy_min": 0.70,
    "sentiment_accuracy_min": 0.65,
    "entity_accuracy_min": 0.60,
    "accuracy_min": 0.70,
    "correction_rate_max": 0.30,
    "fallback_rate_max": 0.15,
    "out_of_scope_rate_max": 0.40,
    "satisfaction_min": 0.60,
    "response_quality_min": 0.60,
    "success_rate_min": 0.80,
    "error_rate_max": 0.15,
    "approval_rate_min": 0.70,
    "quality_min": 0.60,
    "failed_cycles_max": 0.25,
    "conflict_rate_max": 0.20,
    "latency_ms_max": 5_000.0,
}
"""Limits of metrics: `<metric>_min` or `<metric>_max`. `<component>.<metric>_min` is for one component."""
SHARES = frozenset(name.rpartition("_")[0] for name in DEFAULTS) - {"latency_ms"}
"""The metrics in 0 to 1."""
RANKS: Mapping[SystemHealth, int] = {"excellent": 0, "good": 1, "needs_attention": 2, "critical": 3}


class Limit(NamedTuple):
    """A limit of a metric: a minimum or a maximum."""

    value: float
    is_minimum: bool

    def grade(self, interval: Interval) -> SystemHealth:
        """The health of a metric with this interval.

        `critical`: the interval misses the limit by half of it. `excellent`: the interval is nearer to the
        best value (1 for a minimum, 0 for a maximum) than to the limit.
        """
        low, high = interval
        nearest = high if self.is_minimum else low
        missed = self.value - nearest if self.is_minimum else nearest - self.value
        if missed > 0.0:
            return "critical" if missed > SEVERE_DISTANCE * self.value else "needs_attention"
        if self.is_minimum:
            return "excellent" if low >= (1.0 + self.value) / 2.0 else "good"
        return "excellent" if high <= self.value / 2.0 else "good"


class Grade(NamedTuple):
    """The health of one metric, and the sentence that explains it."""

    metric: str
    health: SystemHealth
    reason: str
    value: float
    limit: float


class Limits:
    """The limits of all metrics: the defaults with the given changes. Raises InvalidInput."""

    def __init__(self, given: Mapping[str, float] | None = None) -> None:
        self._limits: dict[str, Limit] = {}
        for name, value in {**DEFAULTS, **(given or {})}.items():
            metric, _, kind = name.rpartition("_")
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not metric or kind not in ("min", "max") or not is_number or not math.isfinite(value):
                raise InvalidInput(
                    f"unknown threshold {name!r:.80}: write the name of a metric with _min or _max, "
                    "such as 'success_rate_min', and a finite number"
                )
            if metric.rpartition(".")[2] in SHARES and not 0.0 <= value <= 1.0:
                raise InvalidInput(f"the threshold {name} must be in 0 to 1, not {value:g}")
            if given and {f"{metric}_min", f"{metric}_max"} <= given.keys():
                raise InvalidInput(f"give {metric} a minimum or a maximum, not both")
            self._limits[metric] = Limit(float(value), kind == "min")

    def of(self, component: str, metric: str) -> Limit | None:
        """The limit of a metric of a component; None without one."""
        return self._limits.get(f"{component}.{metric}") or self._limits.get(metric)

    def grades(self, component: str, intervals: Mapping[str, tuple[float, Interval]]) -> Iterator[Grade]:
        """The grades of the metrics with a limit, from their values and intervals."""
        for metric, (value, interval) in intervals.items():
            limit = self.of(component, metric)
            if limit is not None:
                health = limit.grade(interval)
                side = "minimum" if limit.is_minimum else "maximum"
                reason = (
                    f"{metric} is {value:.3g} (95 % interval {interval[0]:.3g} to {interval[1]:.3g}), "
                    f"{side} {limit.value:g}"
                )
                yield Grade(metric, health, reason, value, limit.value)


def worst(found: Iterable[SystemHealth | None]) -> SystemHealth | None:
    """The worst known health; None if none is known."""
    known = [(RANKS[one], one) for one in found if one is not None]
    return max(known)[1] if known else None
