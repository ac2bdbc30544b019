"""The sparse classifier joined with vectors of the text: its features and an encoder weigh in on one margin.

    margin = ngrams_weight * (features @ sparse weights) + vectors_weight * (vector @ dense weights) + bias

Both kinds of weights are trained together, by the same loss and the same AdaGrad. Only the sparse ones shrink
(see `text_weights`): of a vector there is no part that only one text has.

A text is the more familiar the nearer its vector is to the centre of a label, the mean of the vectors of its
texts:

    Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017.

A centre counts each text as often as it was learned from, the first ones as much as the last. The dense
weights, their sums of squares and the centres, each of shape (width, labels), are saved with what
serves; the encoder's own weights are never saved.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc

from karen_learner.components.design_matrix import DesignMatrix
from karen_learner.components.row_coding import pack, require_names, require_shape, unpack
from karen_learner.components.sparse_ngrams import (
    INITIAL_SQUARE,
    WITH_VECTORS,
    Lesson,
    Margins,
    SparseNgramsConfig,
    SparseNgramsShim,
)
from karen_learner.components.sparse_rows import SparseRows
from karen_learner.components.text_weights import LearningWeights, Proposal
from karen_learner.components.vectors import SentenceVectors
from karen_learner.components.vectors_shim import VectorsShim
from karen_learner.errors import ModelError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_SMALLEST = 1e-9
_LENGTH = 8
"""Bytes that say how long the part that follows is."""


class DenseNgramsShim(SparseNgramsShim):
    """The sparse classifier with a dense view of the text beside its n-grams."""

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
        self._dense, self._centres = self._new_dense(0)
        self._dense_pending: list[tuple[Floats, Floats]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "DenseNgramsShim":
        copied = DenseNgramsShim(
            self.config,
            self.vectors,
            vectors_weight=float(self._vectors_weight),
            ngrams_weight=float(self._ngrams_weight),
        )
        return self._copied_to(copied)

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._dense.nbytes + self._centres.nbytes

    @property
    def dense_weights(self) -> Floats:
        """The weights of the vectors, shape (width, labels); a view."""
        return self._dense.weights

    def margins(self, docs: Sequence[Doc]) -> Margins:
        found, values = super().margins(docs), self._dense_values(docs)
        margins = found.margins + values @ self._dense.weights
        return replace(found, margins=margins, nearness=self._nearness(values))

    def _nearness(self, values: Floats) -> Floats:
        """Cosines of vectors and centres, shape (texts, labels); 0 where there is no vector or no centre."""
        lengths = np.maximum(np.linalg.norm(self._centres, axis=0), _SMALLEST) * self._vectors_weight
        return np.asarray(values @ self._centres / lengths, dtype=np.float32)

    def _margins_of_part(self, docs: Sequence[Doc]) -> Margins:
        found, bias = super()._margins_of_part(docs), self._weights.bias
        return replace(found, margins=self._ngrams_weight * (found.margins - bias) + bias)

    def begin_learning(self, docs: Sequence[Doc]) -> tuple[Floats, Callable[[Lesson], None]]:
        margins, accumulate = super().begin_learning(docs)
        values = self._dense_values(docs)

        def backprop(lesson: Lesson) -> None:
            accumulate(lesson)
            met = values.T @ (lesson.true * lesson.weights[:, None]).astype(np.float32)
            self._dense_pending.append((values.T @ lesson.gradient, met))

        return margins + values @ self._dense.weights, backprop

    def _read_for_learning(
        self, learning: LearningWeights, docs: Sequence[Doc]
    ) -> tuple[DesignMatrix, Proposal]:
        design, proposal = super()._read_for_learning(learning, docs)
        return replace(design, values=design.values * self._ngrams_weight), proposal

    def _dense_values(self, docs: Sequence[Doc]) -> Floats:
        return np.asarray(self.vectors(docs) * self._vectors_weight, dtype=np.float32)

    def finish_update(self, optimizer: Any) -> None:
        super().finish_update(optimizer)
        pending, self._dense_pending = self._dense_pending, []
        if pending:
            rows, labels = (np.arange(size) for size in self._dense.shape)
            gradient, met = np.sum(pending, axis=0)
            self._dense.step(rows, labels, gradient, learn_rate=self.learn_rate)
            self._centres += met

    def discard_gradients(self) -> None:
        super().discard_gradients()
        self._dense_pending = []

    def all_finite(self) -> bool:
        own = (self._dense.weights, self._centres)
        return super().all_finite() and all(bool(np.isfinite(array).all()) for array in own)

    def reset(self, labels: int) -> None:
        super().reset(labels)
        self._dense, self._centres = self._new_dense(labels)
        self._dense_pending = []

    def add_labels(self, labels: int) -> None:
        if labels > self.labels:
            self._dense_pending = []
            self._dense.grow(self.vectors.width, labels)
            self._centres = np.pad(self._centres, ((0, 0), (0, labels - self.labels)))
        super().add_labels(labels)

    def served_bytes(self) -> bytes:
        return self._with_dense(super().served_bytes())

    def to_bytes(self) -> bytes:
        data = super().to_bytes()
        return data if data[:1] == WITH_VECTORS else self._with_dense(data)

    def from_bytes(self, data: bytes) -> Self:
        """Take over what `to_bytes` or `served_bytes` has made.

        Raises EncoderMismatch if it was trained on other vectors, ModelError if on none.
        """
        if data[:1] != WITH_VECTORS:
            raise ModelError(
                "the text classifier was trained without vectors, and its config names some. Take `vectors` "
                "out of the config of its model, or train it anew"
            )
        identity, rest = _split(data[1:])
        dense, sparse = _split(rest)
        VectorsShim(self.vectors).from_bytes(identity)
        weights, centres = self._dense_from(unpack(dense))
        super().from_bytes(sparse)
        shape = (self.vectors.width, self.labels)
        require_shape(weights.weights, shape, "dense weights")
        require_shape(centres, shape, "centres of labels")
        self._dense, self._centres, self._dense_pending = weights, centres, []
        return self

    def _with_dense(self, sparse: bytes) -> bytes:
        identity = VectorsShim(self.vectors).to_bytes()
        weights, squares = self._dense.weights, self._dense.squares
        dense = pack({"weights": weights, "squares": squares, "centres": self._centres})
        return WITH_VECTORS + _sized(identity) + _sized(dense) + sparse

    def _dense_from(self, arrays: dict[str, NDArray[Any]]) -> tuple[SparseRows, Doubles]:
        require_names(arrays, "weights", "squares", "centres")
        weights, squares = arrays["weights"], arrays["squares"]
        centres = arrays["centres"].astype(np.float64)
        return SparseRows.from_arrays(weights, squares, initial_square=INITIAL_SQUARE), centres

    def _new_dense(self, labels: int) -> tuple[SparseRows, Doubles]:
        """Weights and centres of labels that nothing was learned of."""
        width = self.vectors.width
        weights = SparseRows(width, labels, initial_square=INITIAL_SQUARE)
        return weights, np.zeros((width, labels))


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH, "little") + data


def _split(data: bytes) -> tuple[bytes, bytes]:
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    return data[_LENGTH:end], data[end:]
