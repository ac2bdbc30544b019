"""Documents of texts with long rows of signs, and their equality with spaCy's."""

import random
from typing import Any

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.vocab import Vocab

from karen_learner.components.documents import LONGEST_SIGNS, LONGEST_STRETCH, make_doc, pieces

NLP = spacy.blank("en")
WORDS = (
    "don't",
    "e.g.",
    "it's",
    "(see",
    "below)",
    "10km",
    "😀",
    "\n",
    "",
    ":)",
    "http://a.example/b?c=d",
    "...",
    "-",
)


def tokens(doc: Doc) -> list[tuple[str, str, str]]:
    return [(token.text, token.whitespace_, token.norm_) for token in doc]


@settings(max_examples=60, deadline=None)
@given(st.integers(), st.integers(0, 800))
def test_ordinary_texts_have_the_tokens_of_spacy(seed: int, length: int) -> None:
    rng = random.Random(seed)
    text = " ".join(rng.choice(WORDS) for _ in range(length)) + " " + "x" * rng.choice((1, LONGEST_STRETCH))
    assert tokens(make_doc(NLP, text)) == tokens(NLP.make_doc(text))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("a(!😀_ \n\u0301ก"), st.integers(1, 700)), max_size=6))
def test_the_text_stays_and_pieces_are_bounded(rows: list[tuple[str, int]]) -> None:
    text = "".join(sign * count for sign, count in rows)
    found = list(pieces(text))
    assert "".join(found) == text
    assert make_doc(NLP, text).text == text
    for stretch in (word for piece in found for word in piece.split()):
        assert len(stretch) <= LONGEST_STRETCH
        assert stretch.count("!") + stretch.count("(") <= LONGEST_STRETCH
    assert all(piece.count(sign * (LONGEST_SIGNS + 1)) == 0 for piece in found for sign in "(!😀_")


@pytest.mark.parametrize("sign", ["(", "😀", "!", "us", "~"])
def test_many_signs_are_tokenized_in_small_pieces(sign: str) -> None:
    calls: list[int] = []

    class Counting(Language):
        def make_doc(self, text: str) -> Doc:
            calls.append(len(text))
            return super().make_doc(text)

    nlp = Counting(NLP.vocab)
    nlp.tokenizer = NLP.tokenizer
    text = sign * (20_000 // len(sign))
    assert make_doc(nlp, text).text == text
    assert max(calls) <= LONGEST_STRETCH


def test_another_tokenizer_gets_the_whole_text() -> None:
    class OneToken:
        def __init__(self, vocab: Vocab) -> None:
            self.vocab = vocab

        def __call__(self, text: str) -> Doc:
            return Doc(self.vocab, words=[text], spaces=[False])

    nlp = spacy.blank("en")
    whole: Any = OneToken(nlp.vocab)
    nlp.tokenizer = whole
    assert len(make_doc(nlp, "!" * 1_000)) == 1


def test_a_text_beyond_the_limit_of_spacy_is_refused() -> None:
    with pytest.raises(ValueError, match="E088"):
        make_doc(NLP, "!" * (NLP.max_length + 1))
