"""Contract of all `SentenceVectors`."""

import numpy as np
from spacy.language import Language

from karen_learner.components.vectors.base import SentenceVectors

HOSTILE = (
    "",
    " ",
    "\n\t  \n",
    "🍕",
    "👩‍👩‍👧‍👦 e\u0301\u0327",
    "\u200b\u202e",
    "pizza" * 20_000,
    "one pizza " * 5_000,
    "\x00",
)


def check_contract(vectors: SentenceVectors, nlp: Language) -> None:
    """Raises AssertionError if `vectors` break the contract."""
    assert isinstance(vectors, SentenceVectors)
    assert {"digest", "source", "width"} <= set(vectors.identity)
    docs = [nlp.make_doc(text) for text in ("hello there", *HOSTILE, "hello there")]
    rows = vectors(docs)
    assert rows.shape == (len(docs), vectors.width)
    assert rows.dtype == np.float32
    lengths = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(lengths[lengths > 0], 1.0, atol=1e-5)
    assert lengths[0] > 0
    assert not lengths[1:4].any()
    np.testing.assert_array_equal(rows[0], rows[-1])
    np.testing.assert_array_equal(rows, vectors(docs))
    np.testing.assert_allclose(np.concatenate([vectors([doc]) for doc in docs]), rows, atol=1e-6)
    for doc, tokens in zip(docs, vectors.tokens(docs), strict=True):
        assert tokens.shape == (len(doc), vectors.width)
        assert tokens.dtype == np.float32
        assert np.isfinite(tokens).all()
    assert vectors([]).shape == (0, vectors.width)
    assert vectors.tokens([]) == []
    rows[:] = 7.0
    assert not (vectors(docs) == 7.0).any()
