"""`karen_textcat_multilabel`: several true labels, unknown categories."""

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam

from karen_learner.components.textcat.architecture import shim_of
from tests.components.text_corpora import sparse_pipeline

TEXTS = {
    "one pizza please": {"greet": 0.0, "order": 1.0, "leave": 0.0},
    "hello, one pizza please": {"greet": 1.0, "order": 1.0, "leave": 0.0},
    "hello my friend": {"greet": 1.0, "order": 0.0, "leave": 0.0},
    "goodbye": {"greet": 0.0, "order": 0.0, "leave": 1.0},
    "nothing of it": {"greet": 0.0, "order": 0.0, "leave": 0.0},
}


def examples(nlp: Language) -> list[Example]:
    return [Example.from_dict(nlp.make_doc(text), {"cats": cats}) for text, cats in TEXTS.items()]


@pytest.fixture
def nlp() -> Language:
    return sparse_pipeline("karen_textcat_multilabel")


@pytest.fixture
def trained(nlp: Language) -> Language:
    for _ in range(15):
        nlp.update(examples(nlp))
    return nlp


def test_any_number_of_labels_can_be_true(trained: Language) -> None:
    for text, cats in TEXTS.items():
        assert {label: float(score >= 0.5) for label, score in trained(text).cats.items()} == cats
    assert trained.evaluate(examples(trained))["intent_micro_f"] == 1.0


def test_missing_categories_change_no_weights(trained: Language) -> None:
    model = trained.get_pipe("intent").model
    shim = shim_of(model)
    assert shim is not None
    doc = trained.make_doc("goodbye pizza")
    learning = shim.learning_weights()
    rows, weights, bias = len(learning.rows.weights), learning.rows.weights.copy(), learning.bias.copy()
    trained.get_pipe("intent").update(
        [Example.from_dict(doc, {"cats": {"greet": 1.0, "nonsense": 0.3}})], sgd=Adam(0.1)
    )
    moved = (learning.rows.weights[:rows] != weights).any(axis=0)
    np.testing.assert_array_equal(moved, [True, False, False])
    np.testing.assert_array_equal(learning.bias != bias, [True, False, False])
    assert not learning.rows.weights[rows:, 1:].any()


def test_unknown_examples_are_omitted(trained: Language) -> None:
    stranger = Example.from_dict(trained.make_doc("hello"), {"cats": {"nonsense": 1.0}})
    pipe = trained.get_pipe("intent")
    assert pipe.update([stranger], sgd=Adam(0.1)) == {"intent": 0.0}
    assert pipe.score([stranger]) == {}


def test_values_between_zero_and_one_are_refused(nlp: Language) -> None:
    with pytest.raises(ValueError, match="E851"):
        nlp.update([Example.from_dict(nlp.make_doc("hello"), {"cats": {"greet": 0.5}})])


def test_it_can_be_calibrated(trained: Language) -> None:
    report = trained.get_pipe("intent").calibrate(examples(trained), false_alarm_rate=None)
    assert report.log_loss_after <= report.log_loss_before
    assert all(0.0 <= score <= 1.0 for score in trained("hello").cats.values())


def test_several_processes_give_the_same(trained: Language) -> None:
    alone = [doc.cats for doc in trained.pipe(TEXTS)]
    together = [doc.cats for doc in trained.pipe(TEXTS, n_process=2, batch_size=2)]
    for one, other in zip(alone, together, strict=True):
        assert other == pytest.approx(one, abs=1e-6)


def test_without_labels_there_is_no_pipe() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat_multilabel")
    with pytest.raises(ValueError, match="E143"):
        pipe.initialize(lambda: [Example.from_dict(nlp.make_doc("a"), {"cats": {}})], nlp=nlp)
