"""Text vectors: their Protocol, the vectors of the pipeline's vocabulary, and the check of their identity.

`OnnxVectors` (see `onnx`) computes vectors with an encoder from a local folder. Configs name both as `@misc`.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import srsly
from spacy.tokens import Doc
from thinc.api import Model
from thinc.shims import Shim
from thinc.types import Floats2d

from karen_learner.components.arrays import Floats
from karen_learner.errors import EncoderError, EncoderMismatch


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
        self.width = width

    @property
    def identity(self) -> dict[str, Any]:
        source = "the vectors of the pipeline's vocabulary"
        return {"source": source, "digest": f"static-{self.width}", "width": self.width}

    def __call__(self, docs: Sequence[Doc]) -> Floats:
        means = np.zeros((len(docs), self.width), dtype=np.float32)
        for row, vectors in enumerate(self.tokens(docs)):
            if len(vectors):
                means[row] = vectors.mean(axis=0)
        return normalized(means)

    def tokens(self, docs: Sequence[Doc]) -> list[Floats]:
        """Raises EncoderError if the vocabulary has vectors of another width, or none."""
        return [self._tokens_of(doc) for doc in docs]

    def _tokens_of(self, doc: Doc) -> Floats:
        width = doc.vocab.vectors_length
        if width != self.width:
            raise EncoderError(
                f"karen_learner.StaticVectors.v1 is configured for a width of {self.width}, and the "
                f"pipeline's vocabulary has vectors of width {width}. Set `width` to {width}"
                if width
                else "karen_learner.StaticVectors.v1 needs vectors, and the pipeline's vocabulary has none: "
                "start from a pipeline with vectors, or name one as `initialize.vectors` in the config"
            )
        return np.asarray([token.vector for token in doc], dtype=np.float32).reshape(len(doc), width)


def normalized(vectors: Floats) -> Floats:
    """The rows scaled to norm 1. Rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float32)


def static_vectors(width: int) -> SentenceVectors:
    """Vectors of the pipeline's vocabulary: `@misc = "karen_learner.StaticVectors.v1"`."""
    return StaticVectors(width)


class VectorsShim(Shim):
    """Vectors of a model. It saves only their identity, and compares it on loading."""

    def __init__(self, vectors: SentenceVectors) -> None:
        super().__init__(None)
        self.vectors = vectors

    def __deepcopy__(self, memo: dict[int, Any]) -> "VectorsShim":
        return VectorsShim(self.vectors)

    def finish_update(self, optimizer: Any) -> None:
        """Vectors are not trained."""

    def to_bytes(self) -> bytes:
        """The identity of the vectors."""
        identity: bytes = srsly.json_dumps(self.vectors.identity, sort_keys=True).encode("utf-8")
        return identity

    def from_bytes(self, data: bytes) -> "VectorsShim":
        """Raises EncoderMismatch if the bytes are the identity of other vectors."""
        trained, loaded = srsly.json_loads(data.decode("utf-8")), self.vectors.identity
        if trained["digest"] != loaded["digest"]:
            raise EncoderMismatch(
                f"the model was trained on vectors of {trained['source']} (width {trained['width']}, digest "
                f"{trained['digest'][:12]}), and is loaded with {loaded['source']} (width {loaded['width']}, "
                f"digest {loaded['digest'][:12]}). Set the encoder of the training in the config of the "
                "model, or train it again"
            )
        return self


def vectors_layer(vectors: SentenceVectors) -> Model[list[Doc], Floats2d]:
    """The vectors as a layer for chained architectures. It propagates no gradient."""
    return Model(
        "karen_learner_vectors",
        lambda model, docs, is_train: (model.shims[0].vectors(docs), lambda _: []),  # noqa: ARG005 - thinc's
        shims=[VectorsShim(vectors)],
        dims={"nO": vectors.width},
    )
