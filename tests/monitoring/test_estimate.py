"""The accuracy without labels: the correction by bins, and the bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.components.textcat.calibration import (
    Calibration,
    ConfidenceBin,
    ScopeBin,
    confidence_bins,
    scope_bins,
)
from karen_learner.monitoring.readings.estimate import BIN_WEIGHT, estimate

BINS = (ConfidenceBin(0.5, 100, 40), ConfidenceBin(0.9, 100, 70), ConfidenceBin(1.0, 200, 190))
CALIBRATION = Calibration(1.0, 0.0, 0.05, None, BINS)
NONE = np.zeros(0)


def test_the_estimate_lies_between_confidence_and_the_shares_of_its_bins() -> None:
    value, low, high = estimate(np.full(1_000, 0.8), NONE, CALIBRATION)
    share = 70.5 / 101
    assert value == pytest.approx(BIN_WEIGHT * share + (1 - BIN_WEIGHT) * 0.8)
    assert low < share < 0.8 < high


def test_without_bins_the_estimate_is_the_mean_confidence() -> None:
    value, low, high = estimate(np.array([0.9, 0.7] * 50), np.full(5, 0.2), None)
    assert value == pytest.approx(0.8)
    assert high - value == pytest.approx(value - low, abs=0.02)


def test_more_out_of_scope_turns_than_expected_lower_the_bound_alone() -> None:
    confidences = np.full(900, 0.95)
    few, many = (estimate(confidences, np.full(count, 0.2), CALIBRATION) for count in (45, 200))
    assert few[0] == many[0]
    assert few[2] == many[2]
    assert many[1] < few[1] - 0.2


SCOPED = replace(
    CALIBRATION, scope_bins=(ScopeBin(0.3, 50, 800), ScopeBin(0.6, 50, 150), ScopeBin(1.0, 900, 50))
)


def mixture(foreign: int, known: int) -> np.ndarray:
    """The confidences of foreign and known texts, as `SCOPED` expects them."""
    parts = [(0.2, 0.80, 0.05), (0.5, 0.15, 0.05), (0.95, 0.05, 0.90)]
    return np.concatenate([np.full(round(a * foreign + b * known), at) for at, a, b in parts])


def test_accepted_texts_of_unknown_intents_lower_the_estimate() -> None:
    confidences = mixture(200, 800)
    plain, scoped = (estimate(confidences, NONE, one) for one in (CALIBRATION, SCOPED))
    assert scoped[0] == pytest.approx(0.8 * plain[0], rel=0.02)
    assert scoped[1] < scoped[0] < scoped[2] == plain[2]


def test_texts_that_are_found_out_of_scope_do_not_lower_the_estimate() -> None:
    inside, outside = mixture(0, 950), np.concatenate([mixture(200, 0), mixture(0, 50)])
    plain = estimate(inside, outside, CALIBRATION)[0]
    assert estimate(inside, outside, SCOPED)[0] == pytest.approx(plain, abs=0.01)


def test_a_small_excess_of_low_confidences_is_no_unknown_intent() -> None:
    confidences = mixture(3, 297)
    assert estimate(confidences, NONE, SCOPED)[0] == estimate(confidences, NONE, CALIBRATION)[0]


def test_texts_without_their_own_label_stand_for_those_of_unknown_labels() -> None:
    rng = np.random.default_rng(0)
    truths = np.eye(20)[rng.integers(0, 20, 400)]
    margins = (3.0 * truths + rng.normal(0.0, 0.3, truths.shape)).astype(np.float32)
    found = scope_bins(margins, truths, 2.0)
    assert sum(one.known for one in found) == sum(one.foreign for one in found) == 400
    assert sum(one.known for one in found[:3]) == 40
    assert sum(one.foreign for one in found[:3]) > 390
    assert (
        scope_bins(margins[:199], truths[:199], 2.0) == scope_bins(margins[:, :9], truths[:, :9], 2.0) == ()
    )


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.integers(0, 1_000), st.booleans())
def test_the_interval_contains_the_estimate(confidences: list[float], outside: int, has_bins: bool) -> None:
    value, low, high = estimate(np.array(confidences), np.full(outside, 0.2), SCOPED if has_bins else None)
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
        _, low, high = estimate(confidences, NONE, calibration)
        covered += low <= hits.mean() <= high
    assert covered >= 95


def test_bins_survive_their_record_and_few_texts_have_none() -> None:
    assert Calibration.from_record(SCOPED.as_record()) == SCOPED
    former = {name: one for name, one in SCOPED.as_record().items() if not name.endswith("bins")}
    assert Calibration.from_record(former) == replace(SCOPED, bins=(), scope_bins=())
    assert confidence_bins(np.ones((19, 1)), np.ones((19, 1)), np.ones(19), None) == ()
