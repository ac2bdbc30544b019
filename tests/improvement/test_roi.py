"""Return on investment."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.errors import InvalidInput
from karen_learner.improvement import calculate_roi
from karen_learner.improvement.roi import roi_of

AMOUNTS = st.floats(min_value=-1e9, max_value=1e9)


def test_the_return_is_the_gain_without_the_cost_in_relation_to_it() -> None:
    found = calculate_roi(
        {"cost": 100.0, "value": 10.0}, {"cost": 60.0, "value": 20.0, "implementation_cost": 25.0}
    )
    assert (found.gain, found.cost, found.net, found.roi_percentage) == (50.0, 25.0, 25.0, 100.0)
    assert found.payback_days == pytest.approx(3.5)


def test_without_a_cost_there_is_nothing_to_divide_by() -> None:
    found = calculate_roi({"cost": 5.0}, {"cost": 3.0})
    assert (found.gain, found.cost, found.net, found.roi_percentage) == (2.0, None, None, None)
    assert "nothing to divide by" in found.explanation


def test_a_cost_of_zero_is_known() -> None:
    found = roi_of(2.0, 0.0, days=7)
    assert (found.cost, found.net, found.roi_percentage) == (0.0, 2.0, None)


def test_without_a_gain_nothing_pays_back() -> None:
    assert roi_of(-1.0, 5.0, days=7).payback_days is None


@given(AMOUNTS, st.floats(min_value=0.0, max_value=1e9))
def test_all_numbers_are_finite(gain: float, cost: float) -> None:
    found = roi_of(gain, cost, days=7)
    assert all(math.isfinite(value) for value in (found.net or 0.0, found.roi_percentage or 0.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, "5", True])
def test_impossible_amounts_are_refused(bad: object) -> None:
    with pytest.raises(InvalidInput):
        calculate_roi({"cost": bad}, {})  # type: ignore[dict-item]
