"""Scores of predictions with a known answer."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.monitoring.scores import match_score

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_scores_are_symmetric_and_in_range(one: Any, other: Any) -> None:
    assert 0.0 <= match_score(one, other) <= 1.0
    assert match_score(one, other) == pytest.approx(match_score(other, one))
    assert match_score(one, one) == 1.0


@pytest.mark.parametrize(
    ("predicted", "actual", "score"),
    [
        ("Balance ", "balance", 1.0),
        ("balance", "travel", 0.0),
        (90, 100.0, 0.9),
        (-5, 5, 0.0),
        (0, 0.0, 1.0),
        (1.7e308, -1.7e308, 0.0),
        (math.inf, 1.0, 0.0),
        (math.nan, math.nan, 0.0),
        (True, 1, 0.0),
        (True, True, 1.0),
        ({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, 0.5),
        ({"a": 1}, {"a": 1, "b": 2}, 0.5),
        ({}, {}, 1.0),
        (["a", "b"], ["a"], 0.5),
        (("a",), ["a"], 1.0),
        ("ab", ["a", "b"], 0.0),
        (None, "x", 0.0),
    ],
)
def test_rules(predicted: Any, actual: Any, score: float) -> None:
    assert match_score(predicted, actual) == pytest.approx(score)


def test_deeply_nested_values_are_compared_without_recursion_errors() -> None:
    one: Any = "x"
    for _ in range(500):
        one = [one]
    assert match_score(one, one) == 1.0
    assert match_score(one, [one]) == 0.0


def test_numbers_beyond_the_range_of_a_float_are_compared() -> None:
    assert match_score(10**400, 1) == match_score(1, 10**400) == match_score(10**400, 0.5) == 0.0
    assert match_score(10**400, 10**400) == 1.0
