"""Weights and features of the sparse text classifier, and its loss.

Each label has its own hyperplane, trained with squared hinge loss:

    Rifkin, Klautau: In Defense of One-Vs-All Classification, JMLR 5 (2004).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model

from karen_learner.components.arrays import Arrays, Floats, Mask
from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.lexical.polarities import WordPolarities
from karen_learner.components.online.feature_rows import RowOptions, Step
from karen_learner.components.online.shim import LearningShim, find_shim
from karen_learner.components.textcat.features import (
    CHARACTERS,
    WORDS,
    DesignMatrix,
    TextNgrams,
    design_matrix,
)
from karen_learner.components.textcat.weights import LearningWeights, NewFeatures, ServedWeights
from karen_learner.errors import ModelError

TEXTS_PER_PART = 32
"""Number of texts in one design matrix. It must fit into the processor's cache."""
INITIAL_SQUARE = 0.3
"""Start of AdaGrad's sums. The first steps of a weight are proportional to its gradient."""
DENSE_PREFIX = b"V"
"""First byte of the weights of a classifier with vectors; see `dense_shim`."""


@dataclass(frozen=True)
class Margins:
    """Output of the classifier for a batch.

    `margins` (texts, labels): positive for predicted labels. `ngram_coverage` (texts,): share of trained
    character n-grams (of words, if there are no n-grams), from 0 to 1. `centroid_similarity` (texts, labels):
    cosine of the text vector and the centroid of each label; None without vectors.
    """

    margins: Floats
    ngram_coverage: Floats
    centroid_similarity: Floats | None = None


@dataclass(frozen=True)
class LossTargets:
    """Input of a backward pass.

    `gradient` (texts, labels) of the margins; `true` (texts, labels): labels that are true, and not predicted
    with certainty; `weights` (texts,): sample weights.
    """

    gradient: Floats
    true: Mask
    weights: Floats


@dataclass(frozen=True)
class PendingBatch:
    """Features of a batch with the gradient of its margins, until `finish_update`."""

    design: DesignMatrix
    new: NewFeatures
    gradient: Floats
    weights: Floats


@dataclass(frozen=True)
class SparseNgramsConfig:
    """Options of the classifier; see `sparse_ngrams`."""

    exclusive_classes: bool
    learn_rate: float
    char_sizes: tuple[int, ...]
    max_words: int
    pair_words: int
    word_clusters: bool
    word_polarities: bool
    table_bits: int
    max_rows: int


class SparseNgramsShim(LearningShim[LearningWeights, ServedWeights, PendingBatch]):
    """Features and weights of the classifier, and its pending gradients.

    `sample_weights` (texts,) are those of the next backward pass; None if all are 1.
    """

    architecture = "karen_learner.SparseNgrams"

    def __init__(self, config: SparseNgramsConfig) -> None:
        options = RowOptions(config.table_bits, config.max_rows, INITIAL_SQUARE)
        super().__init__(LearningWeights, ServedWeights, options, learn_rate=config.learn_rate)
        self.config = config
        self.sample_weights: Floats | None = None
        self._features = self._ngrams(None, None)

    def _ngrams(self, clusters: WordClusters | None, polarities: WordPolarities | None) -> TextNgrams:
        return TextNgrams(
            char_sizes=self.config.char_sizes,
            max_words=self.config.max_words,
            pair_words=self.config.pair_words,
            clusters=clusters,
            polarities=polarities,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseNgramsShim":
        return self._copy_weights_to(SparseNgramsShim(self.config))

    def margins(self, docs: Sequence[Doc]) -> Margins:
        """Margins of the documents."""
        parts = [self._margins_of_part(part) for part in _parts(docs)]
        return Margins(
            np.concatenate(
                [part.margins for part in parts] or [np.zeros((0, self.labels), dtype=np.float32)]
            ),
            np.concatenate([part.ngram_coverage for part in parts] or [np.zeros(0, dtype=np.float32)]),
        )

    def _margins_of_part(self, docs: Sequence[Doc]) -> Margins:
        weights = self._weights
        design = design_matrix(self._features(docs), weights.rows.table, weights.frequencies.rarity)
        view = CHARACTERS if self.config.char_sizes else WORDS
        return Margins(weights.margins(design), design.coverage[:, view])

    def begin_update(self, docs: Sequence[Doc]) -> tuple[Floats, Callable[[LossTargets], None]]:
        """Margins, and a function that stores the loss targets until `finish_update`."""
        learning, parts = self.learning_weights(), _parts(docs)
        read = [self._training_features(learning, part) for part in parts]
        margins = np.concatenate([learning.margins(design) for design, _ in read])

        def backprop(targets: LossTargets) -> None:
            ends = np.cumsum([len(part) for part in parts])
            for (design, new), end, part in zip(read, ends, parts, strict=True):
                texts = slice(end - len(part), end)
                gradient, weights = targets.gradient[texts], targets.weights[texts]
                self._pending.append(PendingBatch(design, new, gradient, weights))

        return margins, backprop

    def _training_features(
        self, learning: LearningWeights, docs: Sequence[Doc]
    ) -> tuple[DesignMatrix, NewFeatures]:
        features = self._features(docs)
        new = learning.new_features(features)
        rarity = learning.frequencies.rarity
        return design_matrix(features, learning.rows.table, rarity, new=new.buckets), new

    def finish_update(self, optimizer: Any) -> None:  # noqa: ARG002 - the step size is the shim's own
        """Apply the pending gradients at the learn rate of the classifier."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        learning = self.learning_weights()
        for batch in pending:
            learning.record(batch.new, batch.design, batch.weights)
        if self.config.exclusive_classes:
            # Weight decay changes the size of margins, which decides if labels are not exclusive.
            texts = sum(float(batch.weights.sum()) for batch in pending)
            learning.shrink(texts, learn_rate=self.learn_rate)
        steps = [_weight_gradient(batch.design, batch.gradient) for batch in pending]
        self._step([step for step in steps if step])

    def reset(
        self, labels: int, *, clusters: WordClusters | None = None, polarities: WordPolarities | None = None
    ) -> None:
        """Replace the weights by new ones for this number of labels, and the word tables."""
        self._features = self._ngrams(clusters, polarities)
        super().reset(labels)

    def add_labels(self, labels: int) -> None:
        """Grow to this number of labels. Existing weights stay."""
        if labels > self.labels:
            self._pending = []
            self.learning_weights().add_labels(labels)

    def from_bytes(self, data: bytes) -> Self:
        """Restore the weights of `to_bytes` or `served_bytes`.

        Raises ValueError for other bytes, ModelError for weights with vectors or of another `table_bits`.
        """
        if data[:1] == DENSE_PREFIX:
            raise ModelError(
                "the text classifier was trained with vectors, and its config has none. Restore `vectors` in "
                "the config of its model, or train it again"
            )
        return super().from_bytes(data)

    def _pack(self, arrays: Arrays) -> bytes:
        tables = {**self._features.clusters.arrays(), **self._features.polarities.arrays()}
        return super()._pack({**arrays, **tables})

    def _restore(self, form: bytes, arrays: Arrays) -> None:
        features = self._ngrams(WordClusters.from_arrays(arrays), WordPolarities.from_arrays(arrays))
        super()._restore(form, arrays)
        self._features = features


def _parts(docs: Sequence[Doc]) -> list[Sequence[Doc]]:
    return [docs[start : start + TEXTS_PER_PART] for start in range(0, len(docs), TEXTS_PER_PART)]


def _weight_gradient(design: DesignMatrix, gradient: Floats) -> Step | None:
    """Gradient of the feature weights and the biases. Cells beyond the margin have none."""
    active = gradient.any(axis=1)
    if not active.any():
        return None
    values, gradient = design.values[active], gradient[active]
    features, labels = np.flatnonzero(values.any(axis=0)), np.flatnonzero(gradient.any(axis=0))
    product = values[:, features].T @ gradient[:, labels]
    return Step(design.buckets[features], labels, product, gradient.sum(axis=0))


def squared_hinge(margins: Floats, truths: Floats) -> Floats:
    """`max(0, 1 - t * margin) ** 2`, t = 1 for a truth of 1.0 and -1 for 0.0; 0 for NaN."""
    return squared_hinge_gradient(margins, truths) ** 2 / np.float32(4.0)


def squared_hinge_gradient(margins: Floats, truths: Floats) -> Floats:
    """Gradient of `max(0, 1 - t * margin) ** 2`, t = 1 for a truth of 1.0 and -1 for 0.0; 0 for NaN.

    All shapes are (texts, labels).
    """
    signs = np.where(truths > 0.5, np.float32(1.0), np.float32(-1.0))
    gradient = -2.0 * signs * np.maximum(np.float32(0.0), 1.0 - signs * margins)
    gradient[np.isnan(truths)] = 0.0
    return np.asarray(gradient, dtype=np.float32)


def shim_of(model: Model[Any, Any]) -> SparseNgramsShim | None:
    """The shim of a SparseNgrams model; None for other models."""
    return find_shim(model, SparseNgramsShim)
