import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.errors import InvalidInput
from karen_learner.records import clean_text


@pytest.mark.parametrize("text", ["", " ", "\t\n ", "\u3000"])
def test_empty_texts_are_refused(text):
    with pytest.raises(InvalidInput, match="user_text is empty"):
        clean_text(text, limit=10, what="user_text")


@pytest.mark.parametrize("value", [None, b"bytes", 3, ["text"]])
def test_other_types_than_text_are_refused(value):
    with pytest.raises(InvalidInput, match=f"must be a text, not {type(value).__name__}"):
        clean_text(value, limit=10, what="it")


def test_the_limit_counts_characters_and_is_named_with_its_setting():
    assert clean_text("é" * 10, limit=10, what="it") == "é" * 10
    with pytest.raises(InvalidInput, match=r"11 characters, more than the 10 .*analysis\.max_text_chars"):
        clean_text("a" * 11, limit=10, what="it", setting="analysis.max_text_chars")


def test_only_unfit_characters_are_replaced():
    assert clean_text("a\x00b\ud800c\x1bd\te\nf\rg", limit=99, what="it") == "a\ufffdb\ufffdc\ufffdd\te\nf\rg"


@given(st.text(st.characters(), min_size=1))
def test_offsets_stay_and_the_result_can_be_encoded(text):
    if text.isspace():
        return
    cleaned = clean_text(text, limit=10_000, what="it")
    assert len(cleaned) == len(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert clean_text(cleaned, limit=10_000, what="it") == cleaned
