"""Diagnoses of problems that the present trends will cause."""

from __future__ import annotations

from karen_learner.autonomy.troubleshooter.situation import Situation
from karen_learner.disk import bytes_text
from karen_learner.monitoring.health import LOW_DISK_BYTES, LOW_DISK_SHARE
from karen_learner.monitoring.trends import forecast
from karen_learner.records.incidents import Examination

WITHIN_DAYS = 7.0
MIN_SHARE_SEEN = 0.25
"""A forecast reaches at most four times as far as the history behind it."""
LATENCY_MAX_MS = 5_000.0
MEMORY_FACTOR = 2.0


def disk_forecast(situation: Situation) -> Examination:
    """The disk will be almost full within a week."""
    disk = situation.home.disk
    limit = min(float(LOW_DISK_BYTES), LOW_DISK_SHARE * disk.size)
    return _examined(situation, "disk_free", limit, falling=True, shown=bytes_text(int(limit)))


def accuracy_forecast(situation: Situation) -> Examination:
    """The accuracy will fall below `thresholds.accuracy` within a week."""
    limit = situation.settings.thresholds.accuracy
    return _examined(situation, "accuracy", limit, falling=True, shown=f"{limit:.3g}")


def memory_forecast(situation: Situation) -> Examination:
    """The memory of this process will double within a week."""
    history = situation.histories.get("memory")
    limit = MEMORY_FACTOR * history.values[0] if history is not None and history.values else 0.0
    return _examined(situation, "memory", limit, falling=False, shown=bytes_text(int(limit)))


def latency_forecast(situation: Situation) -> Examination:
    """The latency will exceed five seconds within a week."""
    return _examined(situation, "latency", LATENCY_MAX_MS, falling=False, shown=f"{LATENCY_MAX_MS:.0f} ms")


def _examined(situation: Situation, name: str, limit: float, *, falling: bool, shown: str) -> Examination:
    reading = f"{name}_forecast"
    history = situation.histories.get(name)
    trend = history.trend() if history is not None else None
    if trend is None or trend.days <= 0.0:
        return Examination(present=None, reading=reading)
    found = forecast(trend, limit, falling=falling)
    is_soon = (
        found is not None and 0.0 < found.days <= WITHIN_DAYS and trend.days >= MIN_SHARE_SEEN * found.days
    )
    side = "below" if falling else "above"
    days = None if found is None else found.days
    return Examination(
        present=is_soon,
        reading=reading,
        value=days,
        limit=WITHIN_DAYS,
        summary=f"{name} will be {side} {shown} in {days or 0.0:.1f} days at this pace",
        facts={
            "now": trend.level,
            "change_a_day": trend.slope,
            "earliest_days": None if found is None else found.earliest,
            "points": trend.points,
        },
    )
