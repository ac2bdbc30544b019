"""The turns before a text are heard with it."""

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.training import Example

from karen_learner.components.moods import SMALLEST_SHARE, Mood, mood_after, mood_of, set_mood
from karen_learner.components.text_ngrams import MOOD, MOOD_STEPS, TextFeatures, TextNgrams
from tests.components.moody import said, trained_on_moods

ANNOYED, PLEASED = {"negative": 0.8}, {"positive": 0.8}


def test_a_mood_is_a_mean_that_forgets() -> None:
    first = mood_after({}, "negative", 0.5)
    assert first == pytest.approx({"negative": 0.15})
    assert mood_after(first, "positive", 1.0) == pytest.approx({"negative": 0.105, "positive": 0.3})
    assert mood_after(first, "negative", 1.0) == pytest.approx({"negative": 0.405})
    assert mood_after(first, None, 0.0) == pytest.approx({"negative": 0.105})


def test_a_mood_never_exceeds_one_and_dies_away() -> None:
    mood: Mood = {}
    for _ in range(100):
        mood = mood_after(mood, "negative", 1.0)
    assert SMALLEST_SHARE < mood["negative"] <= 1.0
    for _ in range(100):
        mood = mood_after(mood, "neutral", 1.0)
    assert list(mood) == ["neutral"]


def test_a_document_has_no_mood_unless_it_is_given_one() -> None:
    doc = spacy.blank("en")("well")
    assert mood_of(doc) == {}
    set_mood(doc, {})
    assert not doc.user_data
    set_mood(doc, ANNOYED)
    assert mood_of(doc) == mood_of(doc.copy()) == ANNOYED


def features(nlp: Language, *moods: Mood) -> TextFeatures:
    return TextNgrams(char_sizes=(3,), max_words=10, pair_words=4)(
        [said(nlp, "well", mood) for mood in moods]
    )


def moods_of(found: TextFeatures, text: int) -> list[int]:
    return sorted(found.hashes[(found.views == MOOD) & (found.texts == text)].tolist())


def test_the_shares_of_a_mood_are_counted_off() -> None:
    nlp = spacy.blank("en")
    found = features(nlp, {}, {"negative": 0.2}, {"negative": 0.8, "neutral": 0.2}, {"negative": 0.001})
    nothing, little, much, hardly = (moods_of(found, text) for text in range(4))
    assert (len(nothing), len(little), len(much), len(hardly)) == (0, MOOD_STEPS // 5, MOOD_STEPS, 0)
    assert len(set(much)) == MOOD_STEPS
    assert set(little) < set(much)


def test_without_moods_the_features_are_those_of_the_words() -> None:
    nlp = spacy.blank("en")
    silent, told = features(nlp, {}), features(nlp, ANNOYED)
    assert np.array_equal(silent.hashes, told.hashes[told.views != MOOD])


@pytest.fixture(scope="module")
def nlp() -> Language:
    return trained_on_moods()


@pytest.mark.parametrize("text", ["well", "okay", "a word never heard"])
def test_the_same_words_mean_something_else_in_another_mood(nlp: Language, text: str) -> None:
    annoyed, pleased = nlp.pipe([said(nlp, text, ANNOYED), said(nlp, text, PLEASED)])
    assert annoyed.cats["negative"] > 0.5 > pleased.cats["negative"]


def test_what_was_saved_hears_moods_too(nlp: Language) -> None:
    again = spacy.blank("en").from_config(nlp.config)
    again.from_bytes(nlp.to_bytes())
    expected, found = (model(said(model, "okay", ANNOYED)).cats for model in (nlp, again))
    assert found == pytest.approx(expected, abs=0.02)


def test_an_empty_text_has_no_sentiment_in_any_mood(nlp: Language) -> None:
    assert set(nlp(said(nlp, "", ANNOYED)).cats.values()) == {0.0}


def test_a_label_may_be_anything(nlp: Language) -> None:
    strange = {"": 0.5, "\U0001f620 " * 50: 1.0, "nsubj": 0.3}
    assert sum(nlp(said(nlp, "okay", strange)).cats.values()) == pytest.approx(1.0, abs=1e-3)
    example = Example(said(nlp, "okay", strange), said(nlp, "okay", strange))
    example.reference.cats = {"negative": 1.0}
    nlp.update([example])
