"""Quality over time and topics, from the facts of turns."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from karen_learner.metrics import wilson
from karen_learner.monitoring.readings.over_time import MAX_POINTS, quality_by_version, quality_series
from karen_learner.monitoring.readings.recent import TurnFacts
from karen_learner.monitoring.readings.topics import topics_of

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def facts(number: int, **more: object) -> TurnFacts:
    values: dict[str, object] = {
        "seq": number,
        "at": START + timedelta(minutes=number),
        "version": "v1",
        "intent": "a",
        "confidence": 0.8,
        "out_of_scope": False,
        "degraded": False,
        "satisfaction": None,
        "response_quality": None,
        "words": frozenset(),
        "features": np.empty(0, dtype=np.int64),
    }
    return TurnFacts(**{**values, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(("turns", "points"), [(0, 0), (19, 0), (20, 1), (59, 2), (10_000, MAX_POINTS)])
def test_each_point_has_enough_turns(turns: int, points: int) -> None:
    found = quality_series([facts(number) for number in range(turns)])
    assert len(found) == points
    assert sum(one.turns for one in found) == (turns if points else 0)
    assert [one.end for one in found] == sorted(one.end for one in found)


def test_estimate_and_confirmed_answers_are_separate() -> None:
    turns = [facts(number, score=float(number % 4 > 0) if number < 8 else None) for number in range(20)]
    turns += [facts(20, degraded=True, confidence=0.1), facts(21, out_of_scope=True, confidence=0.1)]
    (point,) = quality_series(turns)
    assert point.estimate == pytest.approx(0.8)
    assert point.realised == pytest.approx(6 / 8)
    assert (point.realised_low, point.realised_high) == wilson(6, 8)
    assert (point.labels, point.fallback) == (8, 1)


def test_versions_are_apart() -> None:
    turns = [facts(number, version=f"v{number % 2}", score=float(number % 2)) for number in range(10)]
    found = quality_by_version([*turns, facts(10, version=None)])
    assert [(name, one.turns, one.realised) for name, one in found.items()] == [
        ("v1", 5, 1.0),
        ("v0", 5, 0.0),
    ]
    assert quality_by_version([]) == {}


def test_topics_grow_shrink_and_are_wrong() -> None:
    older = [facts(number, intent="a" if number < 90 else None) for number in range(100)]
    newer = [facts(100 + number, intent="a" if number < 40 else "b", score=0.0) for number in range(100)]
    found = {one.intent: one for one in topics_of([*newer, *older])}
    assert [one.intent for one in topics_of([*newer, *older])] == ["a", "b", None]
    assert (found["a"].turns, found["a"].wrong, found["a"].judged) == (130, 40, 40)
    assert (found["a"].shrinks, found["b"].grows, found[None].shrinks) == (True, True, True)
    assert (found[None].wrong_share, found["b"].wrong_share) == (None, 1.0)
    assert topics_of([]) == []


def test_a_stable_topic_neither_grows_nor_shrinks() -> None:
    (only,) = topics_of([facts(number) for number in range(10)])
    assert (only.grows, only.shrinks, only.share) == (False, False, 1.0)
