"""Pseudo-labels of texts without labels."""

from typing import Any

import pytest
import spacy
from scipy.optimize import brentq
from spacy.language import Language

from karen_learner.components.textcat.calibration import Calibration, softmax
from karen_learner.training.pseudo_labels import MIN_CONFIDENCE, pseudo_label
from tests.components.text_corpora import corpus, example, sparse_pipeline, train

LABELS = ("greet", "leave", "order")
UNSEEN = (("hello my friend", "greet"), ("a pizza please", "order"), ("bye and thanks", "leave"))
KNOWN, STRANGE, EMPTY = "one large pizza please", "quantum entanglement", ""


@pytest.fixture
def calibrated() -> Language:
    nlp = train(sparse_pipeline())
    nlp.get_pipe("intent").calibrate([example(nlp, *one) for one in UNSEEN], false_alarm_rate=0.0)
    return nlp


def texts(nlp: Language, *said: str) -> dict[int, spacy.tokens.Doc]:
    return {3 * at: nlp.make_doc(text) for at, text in enumerate(said)}


def test_a_calibrated_pipe_labels_confident_texts(calibrated: Language) -> None:
    docs = texts(calibrated, KNOWN, STRANGE, EMPTY)
    labelled = pseudo_label(calibrated.get_pipe("intent"), docs, known=LABELS)
    assert {line: doc.cats for line, doc in labelled.items()} == {0: {"order": 1.0}}
    assert labelled[0].text == KNOWN
    assert not any(doc.cats for doc in docs.values())


def test_an_out_of_scope_text_is_not_labelled_at_any_confidence(calibrated: Language) -> None:
    pipe = calibrated.get_pipe("intent")
    pipe.cfg["calibration"] = Calibration(1000.0, 99.0, 0.0, None).as_record()
    scores = pipe.predict([calibrated.make_doc(KNOWN)])
    assert scores[0, :3].max() >= MIN_CONFIDENCE
    assert pseudo_label(pipe, texts(calibrated, KNOWN), known=LABELS) == {}


@pytest.mark.parametrize(("probability", "labelled"), [(0.78, False), (0.82, True)])
def test_a_probability_below_the_minimum_gives_no_label(
    calibrated: Language, probability: float, labelled: bool
) -> None:
    pipe: Any = calibrated.get_pipe("intent")
    margins = pipe._margins([calibrated.make_doc(KNOWN)]).margins
    scale = brentq(lambda scale: float(softmax(margins * scale).max()) - probability, 1e-6, 100.0)
    pipe.cfg["calibration"] = Calibration(scale, None, None, None).as_record()
    assert pipe.predict([calibrated.make_doc(KNOWN)]).max() == pytest.approx(probability, abs=1e-3)
    assert bool(pseudo_label(pipe, texts(calibrated, KNOWN), known=LABELS)) is labelled


def test_an_uncalibrated_pipe_labels_nothing() -> None:
    nlp = train(sparse_pipeline())
    assert pseudo_label(nlp.get_pipe("intent"), texts(nlp, KNOWN), known=LABELS) == {}


def test_a_multilabel_pipe_labels_nothing() -> None:
    nlp = train(sparse_pipeline("karen_textcat_multilabel"))
    nlp.get_pipe("intent").calibrate(corpus(nlp), false_alarm_rate=None)
    assert pseudo_label(nlp.get_pipe("intent"), texts(nlp, KNOWN), known=LABELS) == {}


def test_other_pipes_label_nothing() -> None:
    nlp = spacy.blank("en")
    assert pseudo_label(nlp.add_pipe("sentencizer"), texts(nlp, KNOWN), known=LABELS) == {}


def test_without_texts_there_are_no_labels(calibrated: Language) -> None:
    assert pseudo_label(calibrated.get_pipe("intent"), {}, known=LABELS) == {}


def test_a_pipe_with_a_new_label_labels_nothing(calibrated: Language) -> None:
    pipe = calibrated.get_pipe("intent")
    pipe.add_label("complain")
    assert pseudo_label(pipe, texts(calibrated, KNOWN), known=LABELS) == {}
