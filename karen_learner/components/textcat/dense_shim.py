"""The sparse classifier with an additional text vector.

    margin = ngrams_weight * (features @ sparse weights) + vectors_weight * (vector @ dense weights) + bias

The same loss and AdaGrad train both kinds of weights. Only sparse weights decay: a vector has no component
that belongs to a single text.

The centroid of a label is the sum of the vectors of its training texts. Its similarity is evidence for a text
in scope:

    Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017.

Dense weights, their sums of squares and the centroids have the shape (width, labels). They are saved with the
served weights. The weights of the encoder are not saved.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

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
from karen_learner.components.textcat.features import DesignMatrix
from karen_learner.components.textcat.shim import (
    DENSE_PREFIX,
    INITIAL_SQUARE,
    LossTargets,
    Margins,
    SparseNgramsConfig,
    SparseNgramsShim,
)
from karen_learner.components.textcat.weights import LearningWeights, NewFeatures
from karen_learner.components.vectors.base import SentenceVectors
from karen_learner.components.vectors.shim import VectorsShim
from karen_learner.errors import ModelError

_SMALLEST = 1e-9


class DenseNgramsShim(SparseNgramsShim):
    """Features and weights of the classifier with vectors."""

    def __init__(
        self,
        config: SparseNgramsConfig,
        vectors: SentenceVectors,
        *,
        vectors_weight: float,
        ngrams_weight: float,
    ) -> None:
        super().__init__(config)
        self.vectors = vectors
        self._vectors_weight = np.float32(vectors_weight)
        self._ngrams_weight = np.float32(ngrams_weight)
        self._dense, self._centroids = self._new_dense(0)
        self._dense_pending: list[tuple[Floats, Floats]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "DenseNgramsShim":
        copied = DenseNgramsShim(
            self.config,
            self.vectors,
            vectors_weight=float(self._vectors_weight),
            ngrams_weight=float(self._ngrams_weight),
        )
        return self._copy_weights_to(copied)

    @property
    def dense_weights(self) -> Floats:
        """Weights of the vectors, shape (width, labels); a view."""
        return self._dense.weights

    def margins(self, docs: Sequence[Doc]) -> Margins:
        sparse, values = super().margins(docs), self._dense_values(docs)
        margins = sparse.margins + values @ self._dense.weights
        return replace(sparse, margins=margins, centroid_similarity=self._centroid_similarity(values))

    def _centroid_similarity(self, values: Floats) -> Floats:
        """Cosines of vectors and centroids, shape (texts, labels); 0 without a vector or a centroid."""
        norms = np.maximum(np.linalg.norm(self._centroids, axis=0), _SMALLEST) * self._vectors_weight
        return np.asarray(values @ self._centroids / norms, dtype=np.float32)

    def _margins_of_part(self, docs: Sequence[Doc]) -> Margins:
        sparse, bias = super()._margins_of_part(docs), self._weights.bias
        return replace(sparse, margins=self._ngrams_weight * (sparse.margins - bias) + bias)

    def begin_update(self, docs: Sequence[Doc]) -> tuple[Floats, Callable[[LossTargets], None]]:
        margins, accumulate = super().begin_update(docs)
        values = self._dense_values(docs)

        def backprop(targets: LossTargets) -> None:
            accumulate(targets)
            centroids = values.T @ (targets.true * targets.weights[:, None]).astype(np.float32)
            self._dense_pending.append((values.T @ targets.gradient, centroids))

        return margins + values @ self._dense.weights, backprop

    def _training_features(
        self, learning: LearningWeights, docs: Sequence[Doc]
    ) -> tuple[DesignMatrix, NewFeatures]:
        design, new = super()._training_features(learning, docs)
        return replace(design, values=design.values * self._ngrams_weight), new

    def _dense_values(self, docs: Sequence[Doc]) -> Floats:
        return np.asarray(self.vectors(docs) * self._vectors_weight, dtype=np.float32)

    def finish_update(self, optimizer: Any) -> None:
        super().finish_update(optimizer)
        pending, self._dense_pending = self._dense_pending, []
        if pending:
            rows, labels = (np.arange(size) for size in self._dense.shape)
            gradient, centroids = np.sum(pending, axis=0)
            self._dense.step(rows, labels, gradient, learn_rate=self.learn_rate)
            self._centroids += centroids

    def discard_gradients(self) -> None:
        super().discard_gradients()
        self._dense_pending = []

    def all_finite(self) -> bool:
        dense = (self._dense.weights, self._centroids)
        return super().all_finite() and all(bool(np.isfinite(array).all()) for array in dense)

    def reset(self, labels: int, **tables: Any) -> None:
        super().reset(labels, **tables)
        self._dense, self._centroids = self._new_dense(labels)
        self._dense_pending = []

    def add_labels(self, labels: int) -> None:
        if labels > self.labels:
            self._dense_pending = []
            self._dense.grow(self.vectors.width, labels)
            self._centroids = np.pad(self._centroids, ((0, 0), (0, labels - self.labels)))
        super().add_labels(labels)

    def served_bytes(self) -> bytes:
        return self._with_dense(super().served_bytes())

    def to_bytes(self) -> bytes:
        data = super().to_bytes()
        return data if data[:1] == DENSE_PREFIX else self._with_dense(data)

    def from_bytes(self, data: bytes) -> Self:
        """Restore the weights of `to_bytes` or `served_bytes`.

        Raises EncoderMismatch for weights of other vectors, ModelError for weights without vectors.
        """
        if data[:1] != DENSE_PREFIX:
            raise ModelError(
                "the text classifier was trained without vectors, and its config has some. Remove `vectors` "
                "from the config of its model, or train it again"
            )
        identity, rest = split_length(data[1:])
        dense, sparse = split_length(rest)
        VectorsShim(self.vectors).from_bytes(identity)
        weights, centroids = _dense_from(unpack(dense))
        super().from_bytes(sparse)
        shape = (self.vectors.width, self.labels)
        require_shape(weights.weights, shape, "dense weights")
        require_shape(centroids, shape, "centroids of labels")
        self._dense, self._centroids, self._dense_pending = weights, centroids, []
        return self

    def _with_dense(self, sparse: bytes) -> bytes:
        identity = VectorsShim(self.vectors).to_bytes()
        weights, squares = self._dense.weights, self._dense.squares
        dense = pack({"weights": weights, "squares": squares, "centres": self._centroids})
        return DENSE_PREFIX + with_length(identity) + with_length(dense) + sparse

    def _new_dense(self, labels: int) -> tuple[AdaGradTable, Doubles]:
        """Weights and centroids of zero."""
        width = self.vectors.width
        weights = AdaGradTable(width, labels, initial_square=INITIAL_SQUARE)
        return weights, np.zeros((width, labels))


def _dense_from(arrays: Arrays) -> tuple[AdaGradTable, Doubles]:
    require_names(arrays, "weights", "squares", "centres")
    weights, squares = arrays["weights"], arrays["squares"]
    centroids = arrays["centres"].astype(np.float64)
    return AdaGradTable.from_arrays(weights, squares, initial_square=INITIAL_SQUARE), centroids
