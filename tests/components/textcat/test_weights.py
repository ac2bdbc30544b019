"""Weight decay: its size, the common factor, weights without decay."""

import math
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.training import Example

from karen_learner.components.online.feature_rows import RowOptions, Step
from karen_learner.components.textcat.architecture import shim_of
from karen_learner.components.textcat.dense import INITIAL_SQUARE
from karen_learner.components.textcat.features import TextNgrams, design_matrix
from karen_learner.components.textcat.weights import SHRINKAGE, SMALLEST_FACTOR, LearningWeights

NLP = spacy.blank("en")
OPTIONS = RowOptions(12, 1000, INITIAL_SQUARE)
NGRAMS = TextNgrams(char_sizes=(2,), max_words=50, pair_words=8, bits=OPTIONS.bits)
TEXTS = ("where is my parcel", "my line is dead")


def learned() -> LearningWeights:
    """Weights after a step, for two labels with a text each."""
    weights = LearningWeights.new(OPTIONS, 2)
    features = NGRAMS([NLP.make_doc(text) for text in TEXTS])
    proposal = weights.new_features(features)
    design = design_matrix(features, weights.rows.table, weights.frequencies.rarity, new=proposal.buckets)
    weights.record(proposal, design, np.ones(2, dtype=np.float32))
    gradient = design.values.T @ np.array([[-1.0, 1.0], [1.0, -1.0]], dtype=np.float32)
    weights.step(step_of(design.buckets, gradient), learn_rate=0.1)
    return weights


def step_of(buckets: np.ndarray, gradient: np.ndarray) -> Step:
    """A step of both labels without biases."""
    return Step(buckets, np.arange(2), gradient, np.zeros(2, dtype=np.float32))


def margins(weights: Any) -> np.ndarray:
    features = NGRAMS([NLP.make_doc(text) for text in TEXTS])
    return np.asarray(weights.margins(features)[0])


def without_bias(weights: Any) -> np.ndarray:
    return margins(weights) - weights.bias


def test_weights_decay_by_the_share_of_new_texts() -> None:
    weights = learned()
    before, bias = without_bias(weights), weights.bias.copy()
    weights.shrink(1.0, learn_rate=0.1)  # one of two recorded texts
    expected = before * math.exp(-SHRINKAGE * 0.1 * 0.5)
    np.testing.assert_allclose(without_bias(weights), expected, rtol=1e-5)
    np.testing.assert_array_equal(weights.bias, bias)


def test_without_new_texts_weights_do_not_decay() -> None:
    weights = learned()
    before = margins(weights)
    weights.shrink(0.0, learn_rate=0.1)
    np.testing.assert_array_equal(margins(weights), before)
    LearningWeights.new(OPTIONS, 2).shrink(0.0, learn_rate=0.1)  # no recorded text


def test_the_step_size_does_not_depend_on_the_factor() -> None:
    """AdaGrad's step is the same for each factor."""
    whole, shrunk = learned(), learned()
    shrunk.shrink(2.0, learn_rate=0.5)
    gaps = []
    for weights in (whole, shrunk):
        before = without_bias(weights)
        buckets = weights.rows.table.buckets
        gradient = np.full((len(buckets), 2), 0.25, dtype=np.float32)
        weights.step(step_of(buckets, gradient), learn_rate=0.1)
        gaps.append(without_bias(weights) - before)
    np.testing.assert_allclose(gaps[1], gaps[0], rtol=1e-4)


def test_served_weights_have_decayed() -> None:
    weights = learned()
    weights.shrink(2.0, learn_rate=0.5)
    np.testing.assert_allclose(margins(weights.served()), margins(weights), atol=0.01)


def test_served_margins_are_those_of_the_design_matrix() -> None:
    served = learned().served()
    features = NGRAMS([NLP.make_doc(text) for text in (*TEXTS, "where is qwrtzx", "")])
    margins, coverage = served.margins(features)
    design = design_matrix(features, served.rows.table, served.frequencies.rarity)
    weights = served.rows.quantized[design.rows] * served.rows.scales[design.rows][:, None]
    np.testing.assert_allclose(margins, design.values @ weights + served.bias, rtol=1e-5)
    np.testing.assert_allclose(coverage, design.coverage, rtol=1e-6)
    assert 0.0 < coverage[2, 0] < coverage[0, 0] <= 1.0
    assert not coverage[3].any()


def test_served_margins_do_not_depend_on_the_batch() -> None:
    served = learned().served()
    docs = [NLP.make_doc(text) for text in (*TEXTS, "", "my parcel", "qwrtzx")]
    together = served.margins(NGRAMS(docs))[0]
    for row, doc in zip(together, docs, strict=True):
        np.testing.assert_allclose(row, served.margins(NGRAMS([doc]))[0][0], rtol=1e-6)


def test_training_from_served_weights_keeps_the_decay() -> None:
    weights = learned()
    weights.shrink(2.0, learn_rate=0.5)
    again = LearningWeights.from_served(OPTIONS, weights.served())
    np.testing.assert_allclose(margins(again), margins(weights), atol=0.01)
    assert again.arrays()["factor"][0] == 1.0


def test_a_small_factor_is_multiplied_into_the_weights() -> None:
    weights, factor = learned(), 1.0
    first = without_bias(weights)
    for _ in range(6):
        weights.shrink(2.0, learn_rate=0.5)
        factor *= math.exp(-SHRINKAGE * 0.5)
        np.testing.assert_allclose(without_bias(weights) / factor, first, rtol=0.02)
    assert factor < SMALLEST_FACTOR < float(weights.arrays()["factor"][0])


@pytest.mark.parametrize("factor", [0.0, -1.0, 1e-300, 1.5, float("nan"), float("inf")])
def test_a_damaged_factor_is_refused(factor: float) -> None:
    arrays = {**learned().arrays(), "factor": np.array([factor])}
    with pytest.raises(ValueError, match="damaged"):
        LearningWeights.from_arrays(OPTIONS, arrays)


@pytest.mark.parametrize(("exclusive", "shrinks"), [(True, True), (False, False)])
def test_only_exclusive_labels_decay(exclusive: bool, shrinks: bool) -> None:
    nlp = spacy.blank("en")
    model = {"@architectures": "karen_learner.SparseNgrams.v1", "exclusive_classes": exclusive}
    pipe: Any = nlp.add_pipe(
        "karen_textcat" if exclusive else "karen_textcat_multilabel", config={"model": model}
    )
    examples = [
        Example.from_dict(nlp.make_doc(text), {"cats": {"parcel": float(not number), "line": float(number)}})
        for number, text in enumerate(TEXTS)
    ]
    pipe.initialize(lambda: examples, nlp=nlp)
    for _ in range(3):
        nlp.update(examples)
    shim = shim_of(pipe.model)
    assert shim is not None
    assert (shim.learning_weights().arrays()["factor"][0] < 1.0) == shrinks
