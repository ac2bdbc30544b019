"""Values of the quality formulas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.curation.examples import (
    combined_rating,
    correction_quality,
    rating_quality,
)
from karen_learner.resolution import agreed_quality

shares = st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("satisfaction", "response", "expected"),
    [(None, None, None), (0.9, None, 0.9), (None, 0.6, 0.6), (0.9, 0.6, 0.8), (1.0, 0.0, 2 / 3)],
)
def test_combined_rating(satisfaction: float | None, response: float | None, expected: float | None) -> None:
    assert combined_rating(satisfaction, response) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rating", "confidence", "expected"),
    [
        (1.0, 1.0, 0.9),
        (1.0, 0.6, 0.9),
        (0.8, 0.6, 0.72),
        (0.8, 0.3, 0.576),
        (1.0, 0.0, 0.54),
        (0.5, 1.0, 0.45),
        (0.49, 1.0, 0.0),
    ],
)
def test_rating_quality(rating: float, confidence: float, expected: float) -> None:
    assert rating_quality(rating, confidence) == pytest.approx(expected)


@pytest.mark.parametrize(("confidence", "expected"), [(0.0, 0.95), (0.94, 0.95), (0.95, 0.90), (1.0, 0.90)])
def test_correction_quality(confidence: float, expected: float) -> None:
    assert correction_quality(contradicted_confidence=confidence) == expected


@pytest.mark.parametrize(("users", "expected"), [(0, 0.9), (1, 0.95), (2, 0.975)])
def test_agreed_quality(users: int, expected: float) -> None:
    assert agreed_quality(0.9, users) == pytest.approx(expected)


@given(shares, shares, shares)
def test_quality_never_decreases_with_confidence(rating: float, low: float, high: float) -> None:
    assert rating_quality(rating, min(low, high)) <= rating_quality(rating, max(low, high)) <= 0.9


@given(shares, shares)
def test_a_rating_never_has_more_quality_than_a_correction(rating: float, confidence: float) -> None:
    assert rating_quality(rating, confidence) <= correction_quality(contradicted_confidence=1.0)


@given(shares, st.integers(0, 20))
def test_agreement_never_lowers_quality(quality: float, users: int) -> None:
    assert quality - 1e-12 <= agreed_quality(quality, users) <= 1.0
