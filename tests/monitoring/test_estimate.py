"""The accuracy without labels: the correction by bins, and the bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.components.textcat.calibration import Calibration, ConfidenceBin, confidence_bins
from karen_learner.monitoring.readings.estimate import BIN_WEIGHT, estimate

BINS = (ConfidenceBin(0.5, 100, 40), ConfidenceBin(0.9, 100, 70), ConfidenceBin(1.0, 200, 190))
CALIBRATION = Calibration(1.0, 0.0, 0.05, None, BINS)


def test_the_estimate_lies_between_confidence_and_the_shares_of_its_bins() -> None:
    value, low, high = estimate(np.full(1_000, 0.8), 0, CALIBRATION)
    share = 70.5 / 101
    assert value == pytest.approx(BIN_WEIGHT * share + (1 - BIN_WEIGHT) * 0.8)
    assert low < share < 0.8 < high


def test_without_bins_the_estimate_is_the_mean_confidence() -> None:
    value, low, high = estimate(np.array([0.9, 0.7] * 50), 5, None)
    assert value == pytest.approx(0.8)
    assert high - value == pytest.approx(value - low, abs=0.02)


def test_more_out_of_scope_turns_than_expected_lower_the_bound_alone() -> None:
    confidences = np.full(900, 0.95)
    few, many = estimate(confidences, 45, CALIBRATION), estimate(confidences, 200, CALIBRATION)
    assert few[0] == many[0]
    assert few[2] == many[2]
    assert many[1] < few[1] - 0.2


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.integers(0, 1_000), st.booleans())
def test_the_interval_contains_the_estimate(confidences: list[float], outside: int, has_bins: bool) -> None:
    value, low, high = estimate(np.array(confidences), outside, CALIBRATION if has_bins else None)
    assert 0.0 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1.0


def test_the_interval_covers_the_accuracy_of_overconfident_answers() -> None:
    rng = np.random.default_rng(0)

    def answers(count: int) -> tuple[np.ndarray, np.ndarray]:
        confidences = rng.uniform(0.3, 1.0, count)
        return confidences, rng.random(count) < confidences - 0.1

    held_out, right = answers(2_000)
    shares = np.stack([held_out, np.zeros_like(held_out)], axis=1)
    truths = np.stack([right, ~right], axis=1).astype(np.float64)
    bins = confidence_bins(shares, truths, np.ones(len(right)), None)
    assert sum(one.texts for one in bins) == 2_000
    calibration = Calibration(1.0, None, 0.05, None, bins)
    covered = 0
    for _ in range(100):
        confidences, hits = answers(300)
        _, low, high = estimate(confidences, 0, calibration)
        covered += low <= hits.mean() <= high
    assert covered >= 95


def test_bins_survive_their_record_and_few_texts_have_none() -> None:
    assert Calibration.from_record(CALIBRATION.as_record()) == CALIBRATION
    former = {name: one for name, one in CALIBRATION.as_record().items() if name != "bins"}
    assert Calibration.from_record(former).bins == ()
    assert confidence_bins(np.ones((19, 1)), np.ones((19, 1)), np.ones(19), None) == ()
