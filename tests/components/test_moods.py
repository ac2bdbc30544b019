"""The turns before a text are heard with it."""

from __future__ import annotations

import numpy as np
import pytest
import spacy
from spacy.language import Language

from karen_learner.components.calibration import Calibration, softmax
from karen_learner.components.moods import (
    LEAST_IN_MOODS,
    MOST_NOTED,
    SMALLEST_SHARE,
    Judged,
    Mood,
    MoodEffect,
    Notes,
    doc_in_mood,
    fit_effect,
    mood_after,
    mood_of,
    set_mood,
)
from tests.components.moody import LOUD, WORDS, gold, in_moods, trained_on_moods
from tests.components.text_corpora import SPARSE

ANNOYED, PLEASED = {"negative": 0.5}, {"positive": 0.5}


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


# What a mood says --------------------------------------------------------------------------------

LABELS = ("negative", "neutral", "positive")
WEIGHTS = np.array([[2.0, -0.5, -1.5], [0.0, 0.5, -0.5], [-2.0, 0.0, 2.0]])
USUAL = np.array([0.3, 0.5, 0.2])


def drawn(texts: int) -> Judged:
    """Texts whose truths were drawn by the effect above."""
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(4.0 * USUAL, size=texts) * rng.uniform(0.2, 1.0, size=(texts, 1))
    logits = rng.normal(size=(texts, 3))
    deviations = shares - shares.sum(axis=1, keepdims=True) * USUAL
    chances = softmax(logits + deviations @ WEIGHTS)
    labels = (chances.cumsum(axis=1) > rng.random((texts, 1))).argmax(axis=1)
    moods = [dict(zip(LABELS, row, strict=True)) for row in shares.tolist()]
    return Judged(logits, np.eye(3)[labels], moods)


def test_the_effect_that_made_the_data_is_found() -> None:
    effect = fit_effect([drawn(5_000), drawn(5_000)], LABELS)
    assert effect is not None
    assert effect.usual == pytest.approx(USUAL, abs=0.02)
    mood = {"negative": 0.6, "neutral": 0.2, "positive": 0.2}
    (added,) = effect.of([mood], LABELS)
    expected = (np.array(list(mood.values())) - USUAL) @ WEIGHTS
    assert added - added.mean() == pytest.approx(expected - expected.mean(), abs=0.12)


def test_no_mood_and_the_usual_one_say_nothing() -> None:
    effect = fit_effect([drawn(1_000)], LABELS)
    assert effect is not None
    usual = dict(zip(LABELS, (0.7 * share for share in effect.usual), strict=True))
    assert effect.of([{}, usual, {"bored": 1.0}], LABELS) == pytest.approx(np.zeros((3, 3)), abs=1e-6)


def test_labels_that_came_later_are_left_alone() -> None:
    effect = MoodEffect(texts=200, usual=(0.5, 0.5), weights=((1.0, -1.0), (-1.0, 1.0)))
    added = effect.of([{"negative": 0.4}], ("negative", "positive", "bored"))
    assert added.tolist() == [pytest.approx([0.4, -0.4, 0.0])]


def test_of_few_texts_nothing_is_told() -> None:
    few = drawn(LEAST_IN_MOODS - 1)
    assert fit_effect([few], LABELS) is None
    assert fit_effect([few, drawn(1)], LABELS) is not None
    assert fit_effect([drawn(1_000)], ("billing", "travel", "weather")) is None


def test_an_effect_comes_back_from_json_as_it_was() -> None:
    effect = fit_effect([drawn(500)], LABELS)
    calibration = Calibration(2.5, 0.25, 0.05, None, effect)
    assert Calibration.from_record(calibration.as_record()) == calibration


def test_a_threshold_for_scores_of_another_kind_is_none() -> None:
    record = Calibration(2.5, 0.25, 0.05).as_record()
    del record["doubt_weight"], record["moods"]
    assert Calibration.from_record(record) == Calibration(2.5)


# In a pipe ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nlp() -> Language:
    return trained_on_moods()


@pytest.mark.parametrize("text", ["well", "okay", "a word never heard"])
def test_the_same_words_mean_something_else_in_another_mood(nlp: Language, text: str) -> None:
    annoyed, pleased = nlp.pipe(doc_in_mood(nlp, text, mood) for mood in (ANNOYED, PLEASED))
    assert annoyed.cats["negative"] > 0.5 > pleased.cats["negative"]


def test_clear_words_are_heard_in_any_mood(nlp: Language) -> None:
    for text, label in LOUD:
        for mood in (ANNOYED, PLEASED, {}):
            cats = nlp(doc_in_mood(nlp, text, mood)).cats
            assert max(cats, key=cats.__getitem__) == label


def test_without_an_effect_a_mood_is_passed_over() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="sentiment", config={"model": SPARSE})
    pipe.initialize(lambda: in_moods(nlp), nlp=nlp)
    nlp.update(in_moods(nlp))
    alone, annoyed = nlp.pipe(doc_in_mood(nlp, "okay", mood) for mood in ({}, ANNOYED))
    assert alone.cats == annoyed.cats


def test_what_was_saved_hears_moods_too(nlp: Language) -> None:
    again = spacy.blank("en").from_config(nlp.config)
    again.from_bytes(nlp.to_bytes())
    expected, found = (model(doc_in_mood(model, "okay", ANNOYED)).cats for model in (nlp, again))
    assert found == pytest.approx(expected, abs=0.02)
    assert again.get_pipe("sentiment").calibration == nlp.get_pipe("sentiment").calibration


def test_an_empty_text_has_no_sentiment_in_any_mood(nlp: Language) -> None:
    assert set(nlp(doc_in_mood(nlp, "", ANNOYED)).cats.values()) == {0.0}


def test_a_mood_may_hold_anything(nlp: Language) -> None:
    strange = {"": 0.5, "\U0001f620 " * 50: 0.3, "nsubj": 0.2}
    assert nlp(doc_in_mood(nlp, "okay", strange)).cats == nlp("okay").cats


def test_too_few_texts_in_moods_leave_what_was_fitted_before() -> None:
    nlp = trained_on_moods()
    pipe = nlp.get_pipe("sentiment")
    before = pipe.calibration.moods
    pipe.calibrate([gold(nlp, text, label) for text, label in LOUD for _ in range(20)])
    assert pipe.calibration.moods == before
    pipe.calibrate(in_moods(nlp, LEAST_IN_MOODS + 20))
    better = pipe.calibration.moods
    assert (before.texts, better.texts) == (LEAST_IN_MOODS, LEAST_IN_MOODS + 20)
    pipe.calibrate(in_moods(nlp))
    assert pipe.calibration.moods == better


def test_what_is_said_before_learning_tells_of_moods_too() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="sentiment", config={"model": SPARSE})
    examples = in_moods(nlp)
    pipe.initialize(lambda: examples, nlp=nlp)
    for _ in range(3):
        nlp.update(examples)
    held_out = [gold(nlp, text, label) for text, label in LOUD for _ in range(20)]
    pipe.calibrate(held_out)
    effect = pipe.calibration.moods
    (annoyed,) = effect.of([ANNOYED], pipe.labels)
    index = pipe.labels.index
    assert annoyed[index("negative")] > annoyed[index("positive")]
    pipe.cfg["calibration"] = None
    pipe.calibrate(held_out)  # what was noted told of one training, and of no other
    assert pipe.calibration.moods is None


def test_a_text_is_noted_once_and_before_it_is_learned_from(nlp: Language) -> None:
    notes = Notes()
    docs = [doc_in_mood(nlp, text, ANNOYED) for text in WORDS]
    first, later = np.full((len(docs), 2), 0.5), np.full((len(docs), 2), 0.9)
    truths = np.eye(2)[[0] * len(docs)]
    notes.take(docs, first, truths)
    notes.take(docs, later, truths)
    notes.take([nlp.make_doc("without a mood")], later[:1], truths[:1])
    judged = notes.judged()
    assert judged.logits == pytest.approx(np.log(first))
    assert list(judged.moods) == [ANNOYED] * len(docs)
    many = [doc_in_mood(nlp, "well", {"negative": number / 1e6}) for number in range(1, MOST_NOTED + 10)]
    notes.take(many, np.full((len(many), 2), 0.5), np.zeros((len(many), 2)))
    assert len(notes.judged().moods) == MOST_NOTED


def test_what_may_have_been_learned_before_is_not_noted() -> None:
    nlp = trained_on_moods()
    pipe = nlp.get_pipe("sentiment")
    before = pipe.calibration.moods
    contrary = [gold(nlp, text, "positive", {"negative": 0.3}) for text in WORDS for _ in range(40)]
    nlp.update(contrary)
    pipe.calibrate([gold(nlp, text, label) for text, label in LOUD for _ in range(20)])
    assert pipe.calibration.moods == before


def test_a_new_label_ends_the_notes() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="sentiment", config={"model": SPARSE})
    examples = in_moods(nlp)
    pipe.initialize(lambda: examples, nlp=nlp)
    nlp.update(examples)
    pipe.add_label("neutral")
    nlp.update([gold(nlp, "as you like", "neutral", {"neutral": 0.4})])
    pipe.calibrate([gold(nlp, text, label) for text, label in LOUD for _ in range(20)])
    assert pipe.calibration.moods is None
    pipe.calibrate(in_moods(nlp))
    assert len(pipe.calibration.moods.usual) == 3


def test_an_intent_is_the_same_in_any_mood() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="intent", config={"model": SPARSE})
    rows = [("my bill", "billing"), ("fly me", "travel")]
    moods = [{"negative": number / 200.0} for number in range(1, LEAST_IN_MOODS + 1)]
    examples = [gold(nlp, text, label, mood) for mood in moods for text, label in rows]
    pipe.initialize(lambda: examples, nlp=nlp)
    nlp.update(examples)
    pipe.calibrate(examples)
    assert pipe.calibration.moods is None
    assert nlp(doc_in_mood(nlp, "my bill", ANNOYED)).cats == nlp("my bill").cats


def test_labels_that_do_not_exclude_each_other_hear_no_moods() -> None:
    nlp = spacy.blank("en")
    model = {**SPARSE, "exclusive_classes": False}
    pipe = nlp.add_pipe("karen_textcat_multilabel", name="sentiment", config={"model": model})
    examples = in_moods(nlp)
    pipe.initialize(lambda: examples, nlp=nlp)
    nlp.update(examples)
    pipe.calibrate(examples)
    assert pipe.calibration.moods is None
