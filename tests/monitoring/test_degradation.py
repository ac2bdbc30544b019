"""The detector of rising error rates."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from karen_learner.monitoring.degradation import ALPHA, MIN_HISTORY, NEWEST, DegradationDetector


def errors(rate: float, count: int, *, seed: int) -> Iterator[float]:
    rng = random.Random(seed)
    return (float(rng.random() < rate) for _ in range(count))


def delay(rate: float, *, history: int, drop: float, seed: int) -> int:
    """Outcomes from a change to the alarm; 1,000 without one."""
    detector = DegradationDetector()
    detector.update_all(errors(rate, history, seed=seed))
    for number, error in enumerate(errors(rate + drop, 1000, seed=seed + 10_000), start=1):
        detector.update(error)
        if detector.alarm:
            return number
    return 1000


def test_a_drop_of_15_points_is_found_within_300_outcomes() -> None:
    delays = [delay(0.1, history=1000, drop=0.15, seed=seed) for seed in range(20)]
    assert sum(one <= 300 for one in delays) >= 19


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 1.0])
def test_there_are_few_false_alarms(rate: float) -> None:
    detector = DegradationDetector()
    alarms = 0
    for error in errors(rate, 20_000, seed=1):
        detector.update(error)
        if detector.alarm:
            alarms += 1
            detector.restart()
    assert alarms <= 4


def test_an_improvement_is_no_alarm() -> None:
    detector = DegradationDetector()
    detector.update_all(errors(0.4, 1000, seed=2))
    detector.update_all(errors(0.1, 2000, seed=3))
    assert not detector.alarm


def test_there_is_no_reference_without_a_history() -> None:
    detector = DegradationDetector()
    detector.update_all([0.5] * (NEWEST + MIN_HISTORY - 1))
    assert (detector.reference, detector.evidence) == (None, 0.0)
    detector.update(0.5)
    assert detector.reference is not None


def test_partial_errors_count_by_their_size() -> None:
    detector = DegradationDetector()
    detector.update_all([0.1] * 1000)
    detector.update_all([0.3] * 300)
    assert detector.alarm
    assert detector.evidence >= 1.0 / ALPHA
    assert detector.recent_rate == pytest.approx(0.3)
    detector.restart()
    assert (detector.evidence, detector.history, detector.recent_rate) == (0.0, 0, None)
