"""Keys of texts and of near-duplicates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.curation.examples import draw, group_key, text_key
from karen_learner.resolution import normalised

texts = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Where's   my\tBILL?! ", "where's my bill"),
        ("«Ｗｈｅｒｅ»", "where"),
        ("straße", "strasse"),
        ("what is C#", "what is c#"),
        ("100%", "100%"),
        ("?!", "?!"),
        ("👍", "👍"),
        ("", ""),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert normalised(text) == expected


@given(texts)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@given(texts)
def test_outer_space_does_not_change_the_key(text: str) -> None:
    assert text_key(f" {text}\n") == text_key(text)


def test_a_key_is_stable_across_processes() -> None:
    assert text_key("Where is my bill?") == "1d6e1e5708828e2447bd9b79"
    assert len(text_key("x")) == 24


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my bill?", "my bill, where?"),
        ("cancel order 17", "please cancel my order 4711"),
        ("cancel cancel", "cancel"),
    ],
)
def test_near_duplicates_share_a_group(one: str, other: str) -> None:
    assert group_key(one) == group_key(other)
    assert text_key(one) != text_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("cancel it", "do not cancel it"), ("is it", "to me"), ("?", "!")]
)
def test_other_texts_have_different_groups(one: str, other: str) -> None:
    assert group_key(one) != group_key(other)


@given(texts)
def test_the_same_text_is_in_the_same_group(text: str) -> None:
    assert group_key(normalised(text)) == group_key(text)


def test_draws_are_fixed_and_uniform() -> None:
    drawn = [draw(str(at), seed=7) for at in range(2000)]

    assert drawn == [draw(str(at), seed=7) for at in range(2000)]
    assert all(0.0 <= value < 1.0 for value in drawn)
    assert sum(value < 0.2 for value in drawn) == pytest.approx(400, abs=40)
    assert draw("a", seed=1) != draw("a", seed=2)
