"""Effects: estimates and errors against direct formulas, and properties that hold for all data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from karen_learner.improvement.tracking.effects import (
    Estimate,
    UserTotals,
    holdback_effect,
    series_effect,
)


def users_of(seed: int, *, number: int = 60, effect: float = 0.0, share: float = 0.3) -> UserTotals:
    """Users with an own accuracy that holds in both periods."""
    random = np.random.default_rng(seed)
    accuracy, kept = random.uniform(0.4, 0.9, number), np.arange(number) < share * number
    counts = random.integers(1, 12, (2, number)).astype(float)
    after = accuracy + np.where(kept, 0.0, effect)
    return UserTotals(
        total=random.binomial(counts[0].astype(int), after).astype(float),
        count=counts[0],
        total_before=random.binomial(counts[1].astype(int), accuracy).astype(float),
        count_before=counts[1],
        kept=kept,
    )


def required(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def without_before(users: UserTotals) -> UserTotals:
    nothing = np.zeros(len(users.count))
    return replace(users, total_before=nothing, count_before=nothing)


def test_without_a_period_before_the_effect_is_the_difference_of_both_shares() -> None:
    users = users_of(1, effect=0.1)
    found = required(holdback_effect(without_before(users)))
    shares = [users.total[mask].sum() / users.count[mask].sum() for mask in (~users.kept, users.kept)]
    assert found.change == pytest.approx(shares[0] - shares[1])
    assert (found.after, found.before) == pytest.approx(tuple(shares))


def test_errors_and_degrees_of_freedom_equal_the_formulas_with_matrices() -> None:
    users = users_of(2)
    found = required(holdback_effect(users))
    prior = (
        users.total_before - users.total_before.sum() / users.count_before.sum() * users.count_before
    ) / (users.count_before + 2)
    root = np.sqrt(users.count)
    x = np.column_stack([np.ones(60), ~users.kept, prior]) * root[:, None]
    y = users.total / users.count * root
    inverse = np.linalg.inv(x.T @ x)
    rest = np.eye(60) - x @ inverse @ x.T
    leave_out = (x @ inverse)[:, 1] / np.diag(rest)
    row = leave_out * np.sqrt(np.diag(rest))
    assert found.change == pytest.approx((inverse @ x.T @ y)[1])
    assert found.standard_error == pytest.approx(np.linalg.norm(leave_out * (rest @ y)))
    spread = (rest * row).T @ (rest * row)
    assert found.degrees == pytest.approx(np.trace(spread) ** 2 / np.trace(spread @ spread))


def test_the_period_before_makes_the_error_smaller() -> None:
    users = users_of(3, number=400)
    with_before = required(holdback_effect(users))
    without = required(holdback_effect(without_before(users)))
    assert with_before.standard_error < 0.96 * without.standard_error


@given(st.integers(0, 1000), st.floats(0.1, 100.0))
def test_an_effect_has_the_unit_of_the_metric(seed: int, unit: float) -> None:
    users = users_of(seed)
    scaled = replace(users, total=users.total * unit, total_before=users.total_before * unit)
    one, other = required(holdback_effect(users)), required(holdback_effect(scaled))
    assert_allclose(np.array(other.interval), np.array(one.interval) * unit, rtol=1e-6, atol=1e-9 * unit)


@given(st.integers(0, 1000))
def test_exchanged_sides_reverse_the_sign(seed: int) -> None:
    users = users_of(seed)
    one = required(holdback_effect(users))
    other = required(holdback_effect(replace(users, kept=~users.kept)))
    assert other.change == pytest.approx(-one.change, abs=1e-9)
    assert other.standard_error == pytest.approx(one.standard_error)


@pytest.mark.parametrize("kept", [0, 4, 57])
def test_few_users_on_a_side_give_no_effect(kept: int) -> None:
    assert holdback_effect(replace(users_of(4), kept=np.arange(60) < kept)) is None


def test_a_series_is_compared_with_the_change_of_other_tenants() -> None:
    own = users_of(5, number=300, share=0.0, effect=0.1)
    others = [users_of(10 + at, number=300, share=0.0, effect=0.1) for at in range(4)]
    controls = [required(series_effect(one)) for one in others]
    alone, compared = required(series_effect(own)), required(series_effect(own, controls))
    assert alone.interval[0] > 0.0, "all tenants moved"
    assert compared.interval[0] < 0.0 < compared.interval[1], "this one no more than the others"
    assert (alone.controls, compared.controls) == (0, 4)


def test_few_controls_are_not_used() -> None:
    own = users_of(6)
    control = required(series_effect(users_of(7)))
    assert series_effect(own, [control] * 2) == series_effect(own)


def test_a_series_without_values_in_one_period_gives_no_effect() -> None:
    assert series_effect(without_before(users_of(8))) is None
