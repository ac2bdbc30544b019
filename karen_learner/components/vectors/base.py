"""Vectors of texts, wherever they come from: what an architecture may ask of them.

`OnnxVectors` (see `onnx_vectors`) computes them with an encoder from a local folder, `StaticVectors` takes
them from the pipeline's own vocabulary. Both stand in a config as `@misc`.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc

from karen_learner.errors import EncoderError

Floats = NDArray[np.float32]


@runtime_checkable
class SentenceVectors(Protocol):
    """Vectors of documents and of their tokens. They do not learn."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""

    @property
    def identity(self) -> dict[str, Any]:
        """Says which vectors these are; `digest` tells them from all others, `source` where they are from."""

    def __call__(self, docs: Sequence[Doc]) -> Floats:
        """Vectors of length 1, or 0 for a document that has none; shape (docs, width)."""

    def tokens(self, docs: Sequence[Doc]) -> list[Floats]:
        """For each document the vectors of its tokens, of any length; shape (tokens, width)."""


class StaticVectors:
    """The vectors of the vocabulary that the documents belong to.

    A document has the mean of its tokens' vectors, scaled to length 1. They are saved with the pipeline's
    vocabulary, so that nothing is remembered of them but their `width`.
    """

    def __init__(self, width: int) -> None:
        if width < 1:
            raise ValueError("karen_learner.StaticVectors.v1 needs width >= 1, that of the vectors in use")
        self._width = width

    @property
    def width(self) -> int:
        return self._width

    @property
    def identity(self) -> dict[str, Any]:
        source = "the vectors of the pipeline's vocabulary"
        return {"source": source, "digest": f"static-{self._width}", "width": self._width}

    def __call__(self, docs: Sequence[Doc]) -> Floats:
        means = np.zeros((len(docs), self._width), dtype=np.float32)
        for row, vectors in enumerate(self.tokens(docs)):
            if len(vectors):
                means[row] = vectors.mean(axis=0)
        return with_length_one(means)

    def tokens(self, docs: Sequence[Doc]) -> list[Floats]:
        """Raises EncoderError if the vocabulary has vectors of another width, or none at all."""
        return [self._tokens_of(doc) for doc in docs]

    def _tokens_of(self, doc: Doc) -> Floats:
        width = doc.vocab.vectors_length
        if width != self._width:
            raise EncoderError(
                f"karen_learner.StaticVectors.v1 is configured for a width of {self._width}, and the "
                f"pipeline's vocabulary has vectors of width {width}. Set `width` to {width}"
                if width
                else "karen_learner.StaticVectors.v1 needs vectors, and the pipeline's vocabulary has none: "
                "start from a pipeline with vectors, or name one as `initialize.vectors` in the config"
            )
        vectors = np.zeros((len(doc), self._width), dtype=np.float32)
        for token in doc:
            vectors[token.i] = token.vector
        return vectors


def with_length_one(vectors: Floats) -> Floats:
    """The rows scaled to length 1; rows of zeros stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def static_vectors(width: int) -> SentenceVectors:
    """The vectors of the pipeline's vocabulary: `@misc = "karen_learner.StaticVectors.v1"`."""
    return StaticVectors(width)
