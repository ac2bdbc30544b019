"""Random effects and shrunk sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from karen_learner.improvement.tracking.shrinkage import cumulative_effect, random_effects

SCHOOLS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SCHOOL_ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
"""Effects of coaching in eight schools (Rubin, *Journal of Educational Statistics* 6, 1981)."""


def test_the_mean_of_the_eight_schools_is_the_published_one() -> None:
    found = random_effects(SCHOOLS, SCHOOL_ERRORS)
    assert found.mean == pytest.approx(7.7, abs=0.05)
    assert np.sqrt(found.variance) == pytest.approx(4.1, abs=0.05)


def test_different_effects_have_a_spread() -> None:
    effects, errors = np.array([0.0, 10.0, -10.0, 5.0]), np.full(4, 1.0)
    found = random_effects(effects, errors)
    assert found.predictive_variance - found.variance == pytest.approx(np.var(effects, ddof=1) - 1.0)


def test_the_largest_effect_of_noise_is_shrunk_most() -> None:
    found = cumulative_effect(SCHOOLS, SCHOOL_ERRORS, SCHOOLS > 15)
    assert found.total < 0.6 * SCHOOLS[SCHOOLS > 15].sum()
    assert found.low < found.total < found.high


def test_precise_effects_are_hardly_shrunk() -> None:
    errors = np.full(8, 0.1)
    found = cumulative_effect(SCHOOLS, errors, np.ones(8, dtype=bool))
    assert_allclose(found.shrunk, SCHOOLS, atol=0.05)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 * np.sqrt(8), rel=0.05)


def test_one_effect_is_its_own_sum() -> None:
    found = cumulative_effect(np.array([0.02]), np.array([0.01]), np.array([True]))
    assert (found.total, found.low) == pytest.approx((0.02, 0.02 - 0.0196), abs=1e-4)


def test_no_chosen_effect_sums_to_zero() -> None:
    found = cumulative_effect(SCHOOLS, SCHOOL_ERRORS, np.zeros(8, dtype=bool))
    assert (found.total, found.low, found.high) == (0.0, 0.0, 0.0)


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=12),
    st.floats(0.01, 1.0),
    st.floats(-10, 10),
)
def test_shrunk_effects_lie_between_their_mean_and_the_measured_effects(
    measured: list[float], error: float, shift: float
) -> None:
    effects, errors = np.array(measured), np.full(len(measured), error)
    everything = np.ones(len(effects), dtype=bool)
    found = cumulative_effect(effects, errors, everything)
    assert found.total == pytest.approx(effects.sum(), abs=1e-6), "equal errors: the sum keeps"
    distance = np.abs(found.shrunk - effects.mean())
    assert np.all(distance <= np.abs(effects - effects.mean()) + 1e-9)
    moved = cumulative_effect(effects + shift, errors, everything)
    assert_allclose(moved.shrunk, found.shrunk + shift, atol=1e-6)
