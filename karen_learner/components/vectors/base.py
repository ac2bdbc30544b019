"""Protocol of text vectors, and the vectors of the pipeline's vocabulary.

`OnnxVectors` (see `onnx`) computes vectors with an encoder from a local folder. Configs name both as `@misc`.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from spacy.tokens import Doc

from karen_learner.components.arrays import Floats
from karen_learner.errors import EncoderError


@runtime_checkable
class SentenceVectors(Protocol):
    """Fixed vectors of documents and tokens."""

    @property
    def width(self) -> int:
        """Length of a vector."""

    @property
    def identity(self) -> dict[str, Any]:
        """Identity of the vectors: `digest`, `source` and `width`."""

    def __call__(self, docs: Sequence[Doc]) -> Floats:
        """Vectors of norm 1, or 0 for a document without one; shape (docs, width)."""

    def tokens(self, docs: Sequence[Doc]) -> list[Floats]:
        """Token vectors of each document, of any norm; shape (tokens, width)."""


class StaticVectors:
    """Vectors of the vocabulary: the mean of the token vectors, scaled to norm 1.

    The vocabulary saves them, so their identity is only the `width`.
    """

    def __init__(self, width: int) -> None:
        if width < 1:
            raise ValueError("karen_learner.StaticVectors.v1 needs width >= 1, the width of the vocabulary")
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
        return normalized(means)

    def tokens(self, docs: Sequence[Doc]) -> list[Floats]:
        """Raises EncoderError if the vocabulary has vectors of another width, or none."""
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


def normalized(vectors: Floats) -> Floats:
    """The rows scaled to norm 1. Rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float32)


def static_vectors(width: int) -> SentenceVectors:
    """Vectors of the pipeline's vocabulary: `@misc = "karen_learner.StaticVectors.v1"`."""
    return StaticVectors(width)
