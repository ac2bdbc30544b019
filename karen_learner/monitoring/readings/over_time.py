"""Quality over time: the accuracy that confidences estimate, and the one that feedback confirms. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from karen_learner.metrics import Z_95, wilson
from karen_learner.monitoring.readings.recent import TurnFacts
from karen_learner.records.base import Record, Score

MAX_POINTS = 24
MIN_TURNS = 20
"""Turns of a point at least."""


class QualityPoint(Record):
    """A stretch of successive turns, with 95 % intervals. None: too few observations.

    `estimate` is the mean calibrated confidence of the answers in scope: it needs no labels. `realised` is
    the share of right answers among the turns with feedback, which people select.
    """

    start: datetime
    end: datetime
    turns: int
    estimate: Score | None = None
    estimate_low: Score | None = None
    estimate_high: Score | None = None
    realised: Score | None = None
    realised_low: Score | None = None
    realised_high: Score | None = None
    labels: int = 0
    fallback: int = 0


def quality_series(turns: Sequence[TurnFacts], *, max_points: int = MAX_POINTS) -> list[QualityPoint]:
    """The quality of successive stretches of turns, oldest first. All stretches have about as many turns."""
    count = min(max_points, len(turns) // MIN_TURNS)
    if not count:
        return []
    ordered = sorted(turns, key=lambda one: one.at)
    ends = [round(len(ordered) * number / count) for number in range(count + 1)]
    return [_point(ordered[start:end]) for start, end in pairwise(ends)]


def quality_by_version(turns: Sequence[TurnFacts]) -> dict[str, QualityPoint]:
    """The quality of the turns of each version, the newest version first. A holdback has two at a time."""
    versions: dict[str, list[TurnFacts]] = {}
    for one in sorted(turns, key=lambda one: one.at):
        if one.version is not None:
            versions.setdefault(one.version, []).append(one)
    return {version: _point(versions[version]) for version in sorted(versions, reverse=True)}


def _point(turns: Sequence[TurnFacts]) -> QualityPoint:
    inside = [one.confidence for one in turns if not one.degraded and not one.out_of_scope]
    scores = [one.score for one in turns if one.score is not None]
    estimate, realised = _estimated(inside), _realised(scores)
    return QualityPoint(
        start=turns[0].at,
        end=turns[-1].at,
        turns=len(turns),
        estimate=estimate[0],
        estimate_low=estimate[1],
        estimate_high=estimate[2],
        realised=realised[0],
        realised_low=realised[1],
        realised_high=realised[2],
        labels=len(scores),
        fallback=sum(one.degraded for one in turns),
    )


def _estimated(confidences: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if not confidences:
        return None, None, None
    mean = sum(confidences) / len(confidences)
    half = Z_95 * math.sqrt(sum(one * (1.0 - one) for one in confidences)) / len(confidences)
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def _realised(scores: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if not scores:
        return None, None, None
    low, high = wilson(round(sum(scores)), len(scores))
    return sum(scores) / len(scores), low, high
