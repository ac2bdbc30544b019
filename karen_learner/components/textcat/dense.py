"""Weights of text vectors in a text classifier, and centroids of its labels.

    margin = ngrams_weight * (features @ sparse weights) + vectors_weight * (vector @ dense weights) + bias

The same loss and AdaGrad train both kinds of weights. Only sparse weights decay: a vector has no component
that belongs to a single text.

The centroid of a label is the sum of the vectors of its training texts. Its similarity is evidence for a text
in scope:

    Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017.

Dense weights, their sums of squares and the centroids are saved with the sparse weights, in both forms. The
weights of the encoder are not saved.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from spacy.tokens import Doc

from karen_learner.components.arrays import (
    Arrays,
    Doubles,
    Floats,
    pack,
    require_names,
    require_shape,
    split_length,
    unpack,
    with_length,
)
from karen_learner.components.online.feature_rows import AdaGradTable
from karen_learner.components.vectors.base import SentenceVectors, VectorsShim

DENSE_PREFIX = b"V"
"""First byte of the weights of a classifier with vectors."""
INITIAL_SQUARE = 0.3
"""Start of AdaGrad's sums. The first steps of a weight are proportional to its gradient."""
_SMALLEST = 1e-9


@dataclass
class DenseWeights:
    """Weights of `vectors` times `scale`, and `centroids`; both of shape (width, labels)."""

    vectors: SentenceVectors
    scale: np.float32
    table: AdaGradTable
    centroids: Doubles

    @classmethod
    def new(cls, vectors: SentenceVectors, scale: float, labels: int) -> Self:
        """Weights and centroids of zero."""
        zeros = np.zeros((vectors.width, labels))
        table = AdaGradTable(zeros.astype(np.float32), initial_square=INITIAL_SQUARE)
        return cls(vectors, np.float32(scale), table, zeros)

    @property
    def weights(self) -> Floats:
        """The weights of the vectors; a view."""
        return self.table.weights

    def values_of(self, docs: Sequence[Doc]) -> Floats:
        """Scaled vectors; shape (docs, width)."""
        return np.asarray(self.vectors(docs) * self.scale, dtype=np.float32)

    def centroid_similarity(self, values: Floats) -> Floats:
        """Cosines of vectors and centroids, shape (texts, labels); 0 without a vector or a centroid."""
        norms = np.maximum(np.linalg.norm(self.centroids, axis=0), _SMALLEST) * self.scale
        return np.asarray(values @ self.centroids / norms, dtype=np.float32)

    def step(self, gradients: Sequence[tuple[Floats, Floats]], *, learn_rate: float) -> None:
        """One AdaGrad step with the sum of these gradients of the weights, and additions to the centroids."""
        rows, labels = (np.arange(size) for size in self.table.shape)
        gradient, centroids = np.sum(gradients, axis=0)
        self.table.step(rows, labels, gradient, learn_rate=learn_rate)
        self.centroids += centroids

    def add_labels(self, labels: int) -> None:
        """Grow to this number of labels."""
        self.centroids = np.pad(self.centroids, ((0, 0), (0, labels - self.table.shape[1])))
        self.table.grow(self.vectors.width, labels)

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return all(bool(np.isfinite(array).all()) for array in (self.weights, self.centroids))

    def to_bytes(self) -> bytes:
        """The identity of the vectors, the weights and the centroids."""
        arrays: Arrays = {"weights": self.weights, "squares": self.table.squares, "centres": self.centroids}
        return with_length(VectorsShim(self.vectors).to_bytes()) + with_length(pack(arrays))

    def restored(self, data: bytes) -> tuple[Self, bytes]:
        """The weights of `to_bytes` for the same vectors, and the bytes after them.

        Raises EncoderMismatch for weights of other vectors, ValueError for other bytes.
        """
        identity, rest = split_length(data)
        packed, rest = split_length(rest)
        VectorsShim(self.vectors).from_bytes(identity)
        arrays = unpack(packed)
        require_names(arrays, "weights", "squares", "centres")
        table = AdaGradTable(arrays["weights"], arrays["squares"], initial_square=INITIAL_SQUARE)
        return replace(self, table=table, centroids=arrays["centres"].astype(np.float64)), rest

    def require_labels(self, labels: int) -> None:
        """Raises ValueError for weights of another number of labels."""
        require_shape(self.weights, (self.vectors.width, labels), "dense weights")
        require_shape(self.centroids, (self.vectors.width, labels), "centroids of labels")
