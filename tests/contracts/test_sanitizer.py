"""The contract of `Sanitizer`, for every implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.collection import CharacterSanitizer
from karen_learner.contracts import Sanitizer
from karen_learner.records import replace_unfit

SANITIZERS: list[Sanitizer] = [CharacterSanitizer()]
any_sanitizer = pytest.mark.parametrize("sanitizer", SANITIZERS, ids=lambda one: type(one).__name__)
texts = st.text(st.characters())  # with lone surrogates and control characters


@any_sanitizer
@given(texts)
def test_the_length_stays_the_same(sanitizer: Sanitizer, text: str) -> None:
    assert len(sanitizer.sanitize(text)) == len(text)


@any_sanitizer
@given(texts)
def test_the_result_has_no_unfit_characters(sanitizer: Sanitizer, text: str) -> None:
    sanitized = sanitizer.sanitize(text)
    assert replace_unfit(sanitized) == sanitized


@any_sanitizer
@given(texts)
def test_sanitizing_twice_changes_nothing(sanitizer: Sanitizer, text: str) -> None:
    sanitized = sanitizer.sanitize(text)
    assert sanitizer.sanitize(sanitized) == sanitized


@any_sanitizer
@pytest.mark.parametrize("text", ["", "hello", "two\nlines\tand a tab", "größer 👍"])
def test_an_ordinary_text_is_unchanged(sanitizer: Sanitizer, text: str) -> None:
    assert sanitizer.sanitize(text) == text
