import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.errors import InvalidInput
from karen_learner.records import check_text, replace_unfit


@pytest.mark.parametrize("text", ["", " ", "\t\n ", "\u3000"])
def test_empty_texts_are_refused(text):
    with pytest.raises(InvalidInput, match="user_text is empty"):
        check_text(text, limit=10, what="user_text", setting="s")
    assert check_text(text, limit=10, what="user_text", setting="s", may_be_blank=True) == text


@pytest.mark.parametrize("value", [None, b"bytes", 3, ["text"]])
def test_other_types_than_text_are_refused(value):
    with pytest.raises(InvalidInput, match=f"must be a text, not {type(value).__name__}"):
        check_text(value, limit=10, what="it", setting="s", may_be_blank=True)


def test_the_limit_counts_characters_and_is_named_with_its_setting():
    assert check_text("é" * 10, limit=10, what="it", setting="s") == "é" * 10
    with pytest.raises(InvalidInput, match=r"11 characters, more than the 10 .*analysis\.max_text_chars"):
        check_text("a" * 11, limit=10, what="it", setting="analysis.max_text_chars")


def test_only_unfit_characters_are_replaced():
    assert replace_unfit("a\x00b\ud800c\x1bd\te\nf\rg") == "a\ufffdb\ufffdc\ufffdd\te\nf\rg"


@given(st.text(st.characters(), min_size=1))
def test_offsets_stay_and_the_result_can_be_encoded(text):
    cleaned = replace_unfit(text)
    assert len(cleaned) == len(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert replace_unfit(cleaned) == cleaned
