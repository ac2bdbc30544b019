"""What a pipe learns from texts that nobody labelled."""

from typing import Any

import pytest
import spacy
from scipy.optimize import brentq
from spacy.language import Language

from karen_learner.components.textcat.calibration import Calibration, softmax
from karen_learner.training.self_training import SURE, guess
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


def test_a_calibrated_pipe_labels_what_it_is_sure_of(calibrated: Language) -> None:
    docs = texts(calibrated, KNOWN, STRANGE, EMPTY)
    guessed = guess(calibrated.get_pipe("intent"), docs, known=LABELS)
    assert {line: doc.cats for line, doc in guessed.items()} == {0: {"order": 1.0}}
    assert guessed[0].text == KNOWN
    assert not any(doc.cats for doc in docs.values())


def test_what_is_out_of_scope_is_not_labelled_however_sure_the_pipe_is(calibrated: Language) -> None:
    pipe = calibrated.get_pipe("intent")
    pipe.cfg["calibration"] = Calibration(1000.0, 99.0, 0.0, None).as_record()
    scores = pipe.predict([calibrated.make_doc(KNOWN)])
    assert scores[0, :3].max() >= SURE
    assert guess(pipe, texts(calibrated, KNOWN), known=LABELS) == {}


@pytest.mark.parametrize(("probability", "guessed"), [(0.78, False), (0.82, True)])
def test_less_than_sure_is_not_enough(calibrated: Language, probability: float, guessed: bool) -> None:
    pipe: Any = calibrated.get_pipe("intent")
    margins = pipe._margins([calibrated.make_doc(KNOWN)]).margins
    scale = brentq(lambda scale: float(softmax(margins * scale).max()) - probability, 1e-6, 100.0)
    pipe.cfg["calibration"] = Calibration(scale, None, None, None).as_record()
    assert pipe.predict([calibrated.make_doc(KNOWN)]).max() == pytest.approx(probability, abs=1e-3)
    assert bool(guess(pipe, texts(calibrated, KNOWN), known=LABELS)) is guessed


def test_a_pipe_that_is_not_calibrated_guesses_nothing() -> None:
    nlp = train(sparse_pipeline())
    assert guess(nlp.get_pipe("intent"), texts(nlp, KNOWN), known=LABELS) == {}


def test_labels_that_do_not_exclude_each_other_are_not_guessed() -> None:
    nlp = train(sparse_pipeline("karen_textcat_multilabel"))
    nlp.get_pipe("intent").calibrate(corpus(nlp), false_alarm_rate=None)
    assert guess(nlp.get_pipe("intent"), texts(nlp, KNOWN), known=LABELS) == {}


def test_other_pipes_guess_nothing() -> None:
    nlp = spacy.blank("en")
    assert guess(nlp.add_pipe("sentencizer"), texts(nlp, KNOWN), known=LABELS) == {}


def test_of_no_texts_nothing_is_guessed(calibrated: Language) -> None:
    assert guess(calibrated.get_pipe("intent"), {}, known=LABELS) == {}


def test_a_pipe_with_a_new_label_guesses_nothing(calibrated: Language) -> None:
    pipe = calibrated.get_pipe("intent")
    pipe.add_label("complain")
    assert guess(pipe, texts(calibrated, KNOWN), known=LABELS) == {}
