"""Thresholds of measures: alerts, and the parts of a health score. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from karen_learner.errors import InvalidInput
from karen_learner.records import Alert, HealthPart, Measures

DEFAULTS: Mapping[str, float] = {
    "accuracy_min": 0.70,
    "success_rate_min": 0.80,
    "error_rate_max": 0.15,
    "latency_p95_max_ms": 5000.0,
}
MIN_OBSERVATIONS = 20
"""Outcomes below which a measure raises no alert."""
SEVERE_DISTANCE = 0.5
"""A measure that exceeds a maximum, or misses a minimum, by this share of it is critical."""


class Threshold(NamedTuple):
    """A limit of one measure. `counted` names the number of outcomes behind it."""

    measure: str
    limit: float
    is_minimum: bool
    counted: str
    advice: str

    def points(self, value: float) -> float:
        """100 if the value keeps the limit, less in proportion otherwise."""
        if self.is_minimum:
            return 100.0 * min(1.0, value / self.limit) if self.limit > 0 else 100.0
        return 100.0 if value <= self.limit else 100.0 * self.limit / value

    def is_kept(self, value: float) -> bool:
        """Whether a value does not pass the limit."""
        return value >= self.limit if self.is_minimum else value <= self.limit

    def is_severe(self, value: float) -> bool:
        """Whether a value passes the limit by more than `SEVERE_DISTANCE` of it."""
        distance = self.limit - value if self.is_minimum else value - self.limit
        return distance > SEVERE_DISTANCE * self.limit


_NAMES: Mapping[str, tuple[str, bool, str, str]] = {
    "accuracy_min": (
        "avg_accuracy", True, "scored", "collect corrections and run a learning cycle: the accuracy is low",
    ),
    "success_rate_min": (
        "success_rate", True, "attempts", "read the errors by agent: too few attempts succeed",
    ),
    "error_rate_max": ("error_rate", False, "attempts", "read the errors by agent: too many attempts fail"),
    "latency_p95_max_ms": ("latency_p95_ms", False, "outcomes", "look for slow agents: the latency is high"),
}  # fmt: skip


def read_thresholds(given: Mapping[str, float] | None) -> tuple[Threshold, ...]:
    """The default thresholds with the given changes. Raises InvalidInput.

    `accuracy_min`, `success_rate_min` and `error_rate_max` are in 0 to 1. `latency_p95_max_ms` is in
    milliseconds, at least 0.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise InvalidInput(f"alert_thresholds is a mapping of names to limits, not {given!r:.60}")
    if unknown := sorted(given.keys() - DEFAULTS.keys()):
        raise InvalidInput(f"unknown threshold {unknown[0]!r:.60}: use {', '.join(DEFAULTS)}")
    found = []
    for name, default in DEFAULTS.items():
        limit = given.get(name, default)
        highest = math.inf if name.endswith("_ms") else 1.0
        is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not is_number or not math.isfinite(limit) or not 0.0 <= limit <= highest:
            raise InvalidInput(f"{name} must be a number of 0 to {highest:g}, not {limit!r:.40}")
        measure, is_minimum, counted, advice = _NAMES[name]
        found.append(Threshold(measure, float(limit), is_minimum, counted, advice))
    return tuple(found)


def alerts_of(metrics: Measures, thresholds: tuple[Threshold, ...], *, of: str) -> Iterator[Alert]:
    """The alerts of measures with enough outcomes. `of` names their origin."""
    for one in thresholds:
        value = getattr(metrics, one.measure)
        if value is None or getattr(metrics, one.counted) < MIN_OBSERVATIONS or one.is_kept(value):
            continue
        side = "below" if one.is_minimum else "above"
        yield Alert(
            level="critical" if one.is_severe(value) else "warning",
            reading=one.measure,
            message=f"{of}: {one.measure} {value:.3g} is {side} {one.limit:g}",
            details={"of": of, "value": value, "threshold": one.limit, "outcomes": metrics.outcomes},
        )


def health_parts(metrics: Measures, thresholds: tuple[Threshold, ...]) -> tuple[HealthPart, ...]:
    """The parts of the health score: a part for each measure with outcomes."""
    values = ((one, getattr(metrics, one.measure)) for one in thresholds)
    return tuple(
        HealthPart(reading=one.measure, value=value, threshold=one.limit, points=one.points(value))
        for one, value in values
        if value is not None
    )
