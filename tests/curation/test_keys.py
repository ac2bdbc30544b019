"""Keys of texts and of near-duplicates."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.text_identity import draw, group_key, normalised, text_key, unicode_form

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
        ("(see the list)", "see the list"),
        ("((see) the list).", "(see) the list"),
        ("see the list (of [all]).", "see the list (of [all])"),
        ("...please - ", "please"),
        ("soft\u00adware\u200b", "software"),
        ("Where ❤️", "where ❤"),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert normalised(text) == expected


@pytest.mark.parametrize(
    "several",
    [
        ("thanks :)", "thanks :(", "thanks ;)", "thanks :/", "thanks :D", "thanks :'(", "thanks"),
        ("nice one :-)", "nice one :-(", "nice one"),
        ("great =)", "great =("),
        ("(: hello", "): hello", "hello"),
        ("спасибо)", "спасибо("),
        ("oh ;-;", "oh -_-", "oh '_'", "oh"),
        (":)", ":("),
        ("(that is fine :)", "(that is fine :("),
        ("-5", "5", "+5", ".5", "-.5"),
        ("it is -5 outside", "it is 5 outside"),
        ("-$5", "$5"),
        ("–5", "5"),
        (".net", "net"),
        ("blood type A-", "blood type A", "blood type A+"),
        ("--force", "force"),
        ("❤", "💔"),
    ],
)
def test_signs_that_carry_something_make_another_text(several: tuple[str, ...]) -> None:
    assert len(set(map(text_key, several))) == len(several)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("thanks :)", "Thanks  :)))"),
        ("thanks :)", "thanks ：）"),
        ("спасибо)", "спасибо)))"),
        ("-5", "(-5)"),
        ("blood type A-", "blood type A-."),
        ("where is my bill", "— where is my bill…"),
        ("where is my bill", "[where is my bill]"),
    ],
)
def test_signs_that_carry_nothing_make_the_same_text(one: str, other: str) -> None:
    assert text_key(one) == text_key(other)


@given(texts)
def test_composed_decomposed_and_full_width_writing_is_one_text(text: str) -> None:
    wide = "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text)
    for writing in (unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text), wide):
        assert text_key(writing) == text_key(text)
        assert group_key(writing) == group_key(text)


@given(st.text(st.sampled_from(" .:;=-_'()[]{}<3dp5a)?!–\u0301\u200b"), max_size=12))
def test_normalising_rows_of_signs_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)
    assert bool(normalised(text)) == bool(unicode_form(text).split())


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
