"""Changes of metrics: the same numbers as SciPy, no false alarms, and `stable` only with power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from karen_learner.improvement.samples import AFTER, BEFORE, CLUSTERS, Metric, Samples
from karen_learner.improvement.trends import (
    adjust,
    change_of,
    direction,
    interval_of,
    t_two_sided,
)

SHARE = Metric("accuracy")
P_VALUES = st.lists(st.floats(min_value=1e-9, max_value=1.0), min_size=1, max_size=30)


def binary(before: float, after: float, *, users: int, each: int, seed: int) -> np.ndarray:
    """Sums of binary observations, of users with different rates."""
    random = np.random.default_rng(seed)
    samples = Samples((SHARE,))
    for side, mean in ((BEFORE, before), (AFTER, after)):
        rates = np.clip(random.normal(mean, 0.1, users), 0.0, 1.0)
        for user, hits in enumerate(random.binomial(each, rates)):
            samples.add_sum("accuracy", side, user % CLUSTERS, each, float(hits))
    return samples.sums("accuracy")


@pytest.mark.parametrize("freedom", [9, 20, 255])
@pytest.mark.parametrize("statistic", [0.1, 1.0, 2.5, 6.0])
def test_the_distribution_is_that_of_student(freedom: int, statistic: float) -> None:
    assert t_two_sided(statistic, freedom) == pytest.approx(2 * stats.t.sf(statistic, freedom), abs=1e-3)


@given(P_VALUES)
def test_p_values_are_adjusted_as_by_scipy(p_values: list[float]) -> None:
    with_gap = [None, *p_values]
    assert adjust(with_gap)[0] is None
    np.testing.assert_allclose(adjust(with_gap)[1:], stats.false_discovery_control(p_values))


def test_dependent_observations_of_one_person_widen_the_interval() -> None:
    alone, together = Samples((SHARE,)), Samples((SHARE,))
    for number in range(200):
        alone.add(AFTER, number, [("accuracy", number % 2 == 0)], str(number))
        together.add(AFTER, number % 20, [("accuracy", number % 2 == 0)], str(number))
    width = [np.diff(interval_of(one.sums("accuracy"), SHARE))[0] for one in (alone, together)]
    assert width[1] > 2.5 * width[0]


def test_a_change_of_the_same_people_is_compared_within_them() -> None:
    paired = np.zeros((2, 2, CLUSTERS))
    rates = np.linspace(0.1, 0.9, 40)
    paired[:, 0, :40] = 10
    paired[BEFORE, 1, :40], paired[AFTER, 1, :40] = 10 * rates, 10 * rates + 0.2
    change = change_of(paired, SHARE)
    assert change.difference == pytest.approx(0.02)
    assert change.p is not None
    assert change.p < 1e-5


def test_few_observations_are_unclear() -> None:
    change = change_of(binary(0.9, 0.1, users=5, each=50, seed=0), SHARE)
    assert change.before is not None
    assert change.p is None
    assert direction(change, None, SHARE) == "unclear"


def test_stable_needs_power() -> None:
    weak = change_of(binary(0.8, 0.8, users=30, each=2, seed=1), SHARE)
    strong = change_of(binary(0.8, 0.8, users=250, each=40, seed=1), SHARE)
    assert direction(weak, weak.p, SHARE) == "unclear"
    assert direction(strong, strong.p, SHARE) == "stable"


@given(st.lists(st.floats(allow_nan=False), min_size=60, max_size=60))
def test_any_amounts_have_finite_numbers(values: list[float]) -> None:
    amount = Metric("latency_ms", "lower", is_share=False)
    samples = Samples((amount,))
    for number, value in enumerate(values):
        samples.add(number % 2, number // 2, [("latency_ms", value)], str(number))
    change = change_of(samples.sums("latency_ms"), amount)
    known = (change.before, change.after, change.low, change.high, change.p, change.smallest)
    assert all(math.isfinite(value) for value in known if value is not None)


def test_directions_depend_on_the_better_side() -> None:
    change = change_of(binary(0.6, 0.8, users=100, each=10, seed=2), SHARE)
    assert direction(change, change.p, SHARE) == "improving"
    assert direction(change, change.p, Metric("errors", "lower")) == "declining"


def test_shares_without_any_failure_are_not_certain() -> None:
    sums = np.zeros((2, 2, CLUSTERS))
    sums[:, :, :20] = 1.0
    change = change_of(sums, SHARE)
    assert change.p == 1.0
    assert direction(change, change.p, SHARE) == "unclear"


def test_of_twenty_stable_metrics_at_most_five_percent_are_told_as_moving() -> None:
    told = 0
    for run in range(100):
        changes = [
            change_of(binary(0.8, 0.8, users=80, each=5, seed=1_000 * run + n), SHARE) for n in range(20)
        ]
        told += sum(
            direction(change, p, SHARE) in ("improving", "declining")
            for change, p in zip(changes, adjust([change.p for change in changes]), strict=True)
        )
    assert told <= 0.05 * 2_000
