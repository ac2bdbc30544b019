"""Composed, decomposed and full-width writings get the same answers; long words are read to their end."""

import unicodedata
from itertools import product
from typing import Any

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.training import Example

from karen_learner.components.documents import make_doc
from karen_learner.components.lexical.words import shape_form, token_forms, word_form
from karen_learner.text_identity import unicode_form

TEXTS = {
    "où est le café à Genève ?": ("place", "Genève"),
    "réserver une table à Orléans": ("order", "Orléans"),
    "où est la gare à Orléans": ("place", "Orléans"),
    "réserver un gâteau à Genève, merci": ("order", "Genève"),
}
WORDS = (
    "café",
    "Genève",
    "don't",
    "it's",
    "(où)",
    "12:30",
    "Ångström",
    "한국어",
    "हिन्दी",
    "e.g.",
    "merci!",
    "...",
)


def wide(text: str) -> str:
    """Full-width writing of ASCII."""
    return "".join(
        "\u3000" if one == " " else chr(ord(one) + 0xFEE0) if one.isascii() else one for one in text
    )


def writings(text: str) -> list[str]:
    composed, decomposed = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    return [composed, decomposed, wide(composed), wide(decomposed), "\u200b".join(composed.split("a"))]


@pytest.fixture(scope="module")
def nlp() -> Language:
    nlp = spacy.blank("fr")
    options = {"table_bits": 14}
    nlp.add_pipe("karen_textcat", config={"model": {"@architectures": "karen_learner.SparseNgrams.v1",
                 "exclusive_classes": True, **options}})  # fmt: skip
    nlp.add_pipe("karen_ner", config={"model": {"@architectures": "karen_learner.SparseChain.v1", **options}})
    examples = []
    for text, (label, city) in TEXTS.items():
        doc = make_doc(nlp, text)
        span = doc.char_span(text.index(city), text.index(city) + len(city), label="CITY")
        assert span is not None
        doc.cats = {label: 1.0}
        doc.set_ents([span])
        examples.append(Example(make_doc(nlp, text), doc))
    nlp.initialize(lambda: examples)
    for _ in range(15):
        nlp.update(examples)
    return nlp


@pytest.mark.parametrize("text", TEXTS)
def test_all_writings_of_a_text_get_the_same_answers(nlp: Language, text: str) -> None:
    label, city = TEXTS[text]
    answers = []
    for written in writings(text)[:4]:
        doc = nlp(make_doc(nlp, written))
        assert doc.text == written
        (entity,) = doc.ents
        assert unicode_form(written[entity.start_char : entity.end_char]) == city
        answers.append(doc.cats)
    assert max(answers[0], key=answers[0].__getitem__) == label
    assert all(cats == answers[0] for cats in answers)


def test_the_pipes_alone_read_the_unicode_form_of_words(nlp: Language) -> None:
    composed, decomposed, full_width, *_ = writings("réserver un gâteau à Genève")
    expected = nlp(composed)
    for written in (decomposed, full_width):
        doc = nlp(written)
        assert doc.cats == expected.cats
        assert [unicode_form(entity.text) for entity in doc.ents] == ["Genève"]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_all_writings_of_a_text_have_corresponding_tokens(nlp: Language, words: list[str]) -> None:
    expected = None
    for written in writings(" ".join(words))[:4]:
        doc = make_doc(nlp, written)
        assert doc.text == written
        found = [form for token in doc if (form := unicode_form(token.text).strip())]
        expected = expected or found
        assert found == expected


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_stays_as_it_is(nlp: Language, text: str) -> None:
    assert make_doc(nlp, text).text == text


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("cafe\u0301", "café"), ("ｇｏｏｄ", "good"), ("\u3000", ""), ("\u200b", ""), ("…", "..."),
        ("soft\u00adware", "software"), ("straße", "straße"), (" ", " "),
    ],
)  # fmt: skip
def test_the_form_of_a_word(word: str, form: str) -> None:
    assert word_form(word) == form


@pytest.mark.parametrize("word", ["Café", "ÉCOLES", "gâteaux2", "ＲＯＭＥ", "caféééééé!"])
def test_the_shape_of_a_form_is_that_of_the_composed_word(word: str) -> None:
    strings = spacy.blank("fr").vocab.strings
    keys = []
    for written in writings(word)[:3]:
        token = spacy.tokens.Doc(spacy.blank("fr").vocab, words=[written])[0]
        strings.add(token.lower_)
        strings.add(token.shape_)
        keys.append((token.lower, token.shape))
    forms, _ = token_forms(keys, strings.__getitem__)
    assert len(set(forms)) == 1
    assert shape_form("Xxxx") == "Xxxx"


def test_a_long_word_is_read_to_its_end() -> None:
    """In languages without white space a message may be one word for spaCy. The difference comes last."""
    polite = ["สวัสดีครับแอดมิน", "รบกวนสอบถามหน่อยนะครับ", "ขอโทษที่รบกวนเวลานะครับ"]
    wishes = {"balance": "ยอดเงินคงเหลือเท่าไหร่", "travel": "จองตั๋วเครื่องบินไปเชียงใหม่"}
    nlp = spacy.blank("xx")
    pipe: Any = nlp.add_pipe("karen_textcat")
    examples = [
        Example.from_dict(nlp.make_doc(lead + more + wish), {"cats": {label: 1.0}})
        for (lead, more), (label, wish) in product(product(polite[:2], repeat=2), wishes.items())
    ]
    pipe.initialize(lambda: examples, nlp=nlp)
    for _ in range(10):
        nlp.update(examples)
    for label, wish in wishes.items():
        cats = nlp("".join(polite) + polite[2] + wish).cats
        assert max(cats, key=cats.__getitem__) == label
