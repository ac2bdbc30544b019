"""Readings of the quality of answers, from outcomes: accuracy, corrections, ratings, degradation."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import timedelta

from karen_learner.metrics import Z_95, wilson
from karen_learner.monitoring.degradation import ALPHA, MIN_HISTORY
from karen_learner.monitoring.readings.sources import MIN_OBSERVATIONS, MONTH_DAYS, ONE_SIDED, Sources
from karen_learner.records import Outcome
from karen_learner.records.readings import Direction, Reading


def accuracy(sources: Sources) -> Reading:
    """Mean score of the outcomes of the champion: the answers that people corrected or confirmed."""
    scored = sources.scored()
    return mean_reading(sources, "accuracy", [one.score or 0.0 for one in scored], scored, "lower_is_worse")


def satisfaction(sources: Sources) -> Reading:
    """Mean satisfaction of people, 0 to 1."""
    rated = [one for one in sources.turns if one.satisfaction is not None]
    values = [one.satisfaction or 0.0 for one in rated]
    times = [one.at for one in rated]
    return _mean(sources, "satisfaction", values, sources.windows_per_month(times), "lower_is_worse")


def response_quality(sources: Sources) -> Reading:
    """Mean quality of responses that people or judges reported, 0 to 1."""
    rated = [one for one in sources.turns if one.response_quality is not None]
    values = [one.response_quality or 0.0 for one in rated]
    times = [one.at for one in rated]
    return _mean(sources, "response_quality", values, sources.windows_per_month(times), "lower_is_worse")


def correction_rate(sources: Sources) -> Reading:
    """Share of the outcomes of turns whose label was corrected to another one."""
    told = [one for one in sources.scored() if one.source == "turn"]
    corrected = [float((one.score or 0.0) < 1.0) for one in told]
    return mean_reading(sources, "correction_rate", corrected, told, "higher_is_worse")


def failure_rate(sources: Sources) -> Reading:
    """Share of failed attempts."""
    attempts = [one for one in sources.outcomes if one.success is not None]
    return mean_reading(
        sources, "failure_rate", [float(not one.success) for one in attempts], attempts, "higher_is_worse"
    )


def unknown_labels(sources: Sources) -> Reading:
    """Share of corrections whose intent is not in the label schema. People want labels that gold lacks."""
    corrected = [one for one in sources.outcomes if one.source == "turn" and isinstance(one.actual, str)]
    unknown = [float(one.actual not in sources.intents) for one in corrected]
    return mean_reading(sources, "unknown_labels", unknown, corrected, "higher_is_worse")


def degradation(sources: Sources) -> Reading:
    """The e-value of a lasting rise of the error rate: the mean over agents. An alarm from `1 / ALPHA`.

    The mean of e-values is an e-value, so that several agents share one rate of false alarms.
    """
    found = {agent: one for agent, one in sources.detectors.items() if one.reference is not None}
    seen = sum(one.history for one in sources.detectors.values())
    if not found:
        return sources.reading(
            "degradation",
            None,
            unit="e-value",
            direction="higher_is_worse",
            observations=seen,
            detail={"needed": MIN_HISTORY},
        )
    worst, detector = max(found.items(), key=lambda item: item[1].evidence)
    evidence = min(sum(one.evidence for one in found.values()) / len(found), sys.float_info.max)
    per_month = _per_month(sources, [one for one in sources.outcomes if one.score is not None])
    return sources.reading(
        "degradation",
        evidence,
        unit="e-value",
        direction="higher_is_worse",
        reference=1.0 / ALPHA,
        observations=seen,
        alarm=evidence >= 1.0 / ALPHA,
        false_alarms_per_month=ALPHA * per_month,
        detail={
            "agent": worst,
            "error_rate": detector.recent_rate,
            "reference_rate": detector.reference,
            "rise": _rise(detector.recent_rate, detector.reference),
        },
    )


def mean_reading(
    sources: Sources, name: str, values: Sequence[float], of: Sequence[Outcome], direction: Direction
) -> Reading:
    """The mean of one value of each outcome, with its interval."""
    windows = sources.windows_per_month([one.known_at for one in of])
    return _mean(sources, name, values, windows, direction)


def _mean(
    sources: Sources, name: str, values: Sequence[float], windows: float, direction: Direction
) -> Reading:
    count = len(values)
    if count < MIN_OBSERVATIONS:
        return sources.reading(name, None, unit="share", direction=direction, observations=count)
    mean = sum(values) / count
    return sources.reading(
        name,
        mean,
        unit="share",
        direction=direction,
        interval=_interval(values, mean),
        observations=count,
        false_alarms_per_month=ONE_SIDED * windows,
    )


def _interval(values: Sequence[float], mean: float) -> tuple[float, float]:
    """Wilson's interval for shares; for other values, that of Student with a large sample."""
    if all(value in (0.0, 1.0) for value in values):
        return wilson(round(sum(values)), len(values))
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    return max(0.0, mean - Z_95 * spread), min(1.0, mean + Z_95 * spread)


def _per_month(sources: Sources, of: Sequence[Outcome]) -> float:
    """Outcomes of a month, at the pace of these."""
    if len(of) < 2:
        return 0.0
    days = max((sources.now - of[0].known_at) / timedelta(days=1), 1 / 24)
    return len(of) * MONTH_DAYS / days


def _rise(rate: float | None, reference: float | None) -> float | None:
    return None if rate is None or reference is None else rate - reference
