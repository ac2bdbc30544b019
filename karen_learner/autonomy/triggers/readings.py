"""Triggers on readings. A value counts if the whole interval is beyond the limit."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from karen_learner.autonomy.triggers.trigger import Check, Situation, Trigger
from karen_learner.monitoring.readings.drift import EFFECTS
from karen_learner.records.readings import Reading


class OnReading(Trigger):
    """A reading is `above` or `below` a limit with its whole interval, or its own test has an alarm."""

    name: str
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _not_contradicting(self) -> Self:
        if self.above is not None and self.below is not None and self.above < self.below:
            raise ValueError("every value is above the one limit or below the other: give one of them")
        return self

    def check(self, situation: Situation) -> Check:
        return check_reading(situation.readings.get(self.name), self.name, above=self.above, below=self.below)


class Degradation(Trigger):
    """The detector of degradations has an alarm: the error rate has risen for good."""

    def check(self, situation: Situation) -> Check:
        return check_reading(situation.readings.get("degradation"), "degradation")


class ErrorPatterns(Trigger):
    """A kind of error has become more frequent."""

    def check(self, situation: Situation) -> Check:
        return check_reading(situation.readings.get("error_pattern"), "error_pattern")


class Drift(Trigger):
    """Texts differ from the earlier ones, with at least this effect (area under the ROC curve)."""

    effect: Annotated[float, Field(ge=0.5, le=1.0)] = 0.5 + EFFECTS["input_drift"]

    def check(self, situation: Situation) -> Check:
        found = check_reading(situation.readings.get("input_drift"), "input_drift")
        value = found.reading.value if found.reading is not None else None
        if not found.holds or value is None:
            return found
        return found._replace(
            holds=value >= self.effect, why=f"{found.why}; effect {value:.2f}, limit {self.effect:g}"
        )


class Freshness(Trigger):
    """The champion is at least `days` old, and people correct more than `corrections` of its answers."""

    days: Annotated[float, Field(gt=0.0)] = 14.0
    corrections: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2

    def check(self, situation: Situation) -> Check:
        age, rate = (situation.readings.get(name) for name in ("freshness", "correction_rate"))
        old = check_reading(age, "freshness", above=self.days)
        corrected = check_reading(rate, "correction_rate", above=self.corrections)
        return Check(old.holds and corrected.holds, f"{old.why}; {corrected.why}", age)


def check_reading(
    reading: Reading | None, name: str, *, above: float | None = None, below: float | None = None
) -> Check:
    """Compare a reading with limits; without limits, its own test decides."""
    if reading is None:
        return Check(False, f"no reading {name!r}")
    if reading.value is None:
        return Check(False, f"{name}: {reading.observations} observations are too few", reading)
    if above is None and below is None:
        limit = "" if reading.reference is None else f", limit {reading.reference:.4g}"
        return Check(bool(reading.alarm), f"{name} {_text(reading)}{limit}", reading)
    holds = (above is not None and reading.is_above(above)) or (below is not None and reading.is_below(below))
    limits = [
        f"above {above:g}" if above is not None else "",
        f"below {below:g}" if below is not None else "",
    ]
    return Check(holds, f"{name} {_text(reading)}, wanted {' or '.join(filter(None, limits))}", reading)


def _text(reading: Reading) -> str:
    value = reading.value or 0.0
    if reading.low is None or reading.high is None or reading.low == reading.high:
        return f"{value:.3g}"
    return f"{value:.3g} ({reading.low:.3g} to {reading.high:.3g})"
