"""`karen_learner.StaticVectors.v1`: vectors of the vocabulary."""

import numpy as np
import pytest
import spacy
from spacy.language import Language

from karen_learner.components.vectors.base import StaticVectors
from karen_learner.errors import EncoderError
from tests.components.vectors_contract import check_contract


@pytest.fixture
def nlp() -> Language:
    nlp = spacy.blank("en")
    nlp.vocab.set_vector("hello", np.asarray([3.0, 0.0, 0.0], dtype=np.float32))
    nlp.vocab.set_vector("there", np.asarray([0.0, 4.0, 0.0], dtype=np.float32))
    return nlp


def test_the_contract_of_vectors_holds(nlp: Language) -> None:
    check_contract(StaticVectors(3), nlp)


def test_a_text_vector_is_the_normalized_mean_of_its_tokens(nlp: Language) -> None:
    docs = [nlp.make_doc(text) for text in ("hello there", "hello unknown", "unknown")]
    expected = [[0.6, 0.8, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(StaticVectors(3)(docs), expected, rtol=1e-6)
    tokens = StaticVectors(3).tokens(docs)
    np.testing.assert_array_equal(tokens[0], [[3, 0, 0], [0, 4, 0]])
    assert not tokens[2].any()


def test_another_width_is_an_error(nlp: Language) -> None:
    with pytest.raises(EncoderError, match=r"width of 300.*has vectors of width 3.*Set `width` to 3"):
        StaticVectors(300)([nlp.make_doc("hello")])


def test_a_vocabulary_without_vectors_is_an_error() -> None:
    with pytest.raises(EncoderError, match="has none: start from a pipeline with vectors"):
        StaticVectors(300)([spacy.blank("en").make_doc("hello")])


def test_a_width_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="width >= 1"):
        StaticVectors(0)
