"""`karen_learner.SparseNgrams.v2` and `v1`: a linear text classifier over hashed n-grams, trained online.

Features are words, pairs of neighbours, character n-grams and unordered pairs of words (see `features`).
English also has word clusters and polarities. Rare features have larger values. Each label has its own
hyperplane, trained with squared hinge loss:

    Rifkin, Klautau: In Defense of One-Vs-All Classification, JMLR 5 (2004).

The weights are in a `LearningShim`. AdaGrad updates only the rows of present features. spaCy's optimizer sets
the time of a step, not its size. Weights decay with each trained text. Dropout is not applied.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from karen_learner.components.arrays import Arrays, Floats, Mask
from karen_learner.components.lexical import clusters, polarities
from karen_learner.components.online.feature_rows import RowOptions, Step
from karen_learner.components.online.shim import LearningShim, find_shim
from karen_learner.components.textcat.calibration import MARGIN_SCALE, probabilities
from karen_learner.components.textcat.dense import DENSE_PREFIX, INITIAL_SQUARE, DenseWeights
from karen_learner.components.textcat.features import (
    CHARACTERS,
    WORDS,
    DesignMatrix,
    TextNgrams,
    design_matrix,
)
from karen_learner.components.textcat.margins import Margins
from karen_learner.components.textcat.weights import FORMER_POWER, LearningWeights, NewFeatures, ServedWeights
from karen_learner.components.vectors.base import SentenceVectors
from karen_learner.errors import ModelError

TEXTS_PER_PART = 32
"""Number of texts in one design matrix. It must fit into the processor's cache."""


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
    """Features of a batch and its loss targets, until `finish_update`. `values` are its scaled vectors."""

    read: list[tuple[DesignMatrix, NewFeatures]]
    targets: LossTargets
    values: Floats | None

    def parts(self) -> Iterator[tuple[DesignMatrix, NewFeatures, Floats, Floats]]:
        """Design matrix, new features, gradient and sample weights of each part."""
        start = 0
        for design, new in self.read:
            texts = slice(start, start + len(design.values))
            yield design, new, self.targets.gradient[texts], self.targets.weights[texts]
            start = texts.stop


@dataclass(frozen=True)
class SparseNgramsConfig:
    """Options of the classifier; see `sparse_ngrams`. `features` are those without word tables."""

    exclusive_classes: bool
    learn_rate: float
    rarity_power: float
    features: TextNgrams
    word_clusters: bool
    word_polarities: bool
    rows: RowOptions
    vectors: SentenceVectors | None
    vectors_weight: float
    ngrams_weight: float

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        features, rows, weighs = self.features, self.rows, self.vectors_weight > 0 and self.ngrams_weight >= 0
        conditions = {
            "8 <= table_bits <= 28 and max_rows >= 2": 8 <= rows.bits <= 28 and rows.max_rows >= 2,
            "max_words >= 1 and pair_words >= 0": features.max_words >= 1 and features.pair_words >= 0,
            "learn_rate > 0 and 0 <= rarity_power <= 4": self.learn_rate > 0 and 0 <= self.rarity_power <= 4,
            "a finite initial_square > 0": 0 < rows.initial_square < math.inf,
            "char_sizes of 1 or more": all(size >= 1 for size in features.char_sizes),
            "vectors_weight > 0 and ngrams_weight >= 0 with vectors": weighs or self.vectors is None,
        }
        for condition, met in conditions.items():
            if not met:
                raise ValueError(f"karen_learner.SparseNgrams needs {condition}")


class SparseNgramsShim(LearningShim[LearningWeights, ServedWeights, PendingBatch]):
    """Features and weights of the classifier, and its pending gradients.

    `sample_weights` (texts,) are those of the next backward pass; None if all are 1. `dense` are the weights
    of the vectors; None without vectors.
    """

    architecture = "karen_learner.SparseNgrams"

    def __init__(self, config: SparseNgramsConfig) -> None:
        super().__init__(LearningWeights, ServedWeights, config.rows, learn_rate=config.learn_rate)
        self.config = config
        self.sample_weights: Floats | None = None
        self.dense = self._new_dense(0)
        self._features = config.features
        self._ngrams_weight = np.float32(config.ngrams_weight)
        # Dense weights start at another sum of squares. Their first steps have the size of sparse ones.
        self._dense_rate = math.sqrt(INITIAL_SQUARE / config.rows.initial_square)
        self.reset(0)

    def reset(self, labels: int) -> None:
        """Replace the weights by new ones for this number of labels."""
        super().reset(labels)
        self.learning_weights().frequencies.power = self.config.rarity_power

    def _new_dense(self, labels: int) -> DenseWeights | None:
        vectors = self.config.vectors
        return None if vectors is None else DenseWeights.new(vectors, self.config.vectors_weight, labels)

    def margins(self, docs: Sequence[Doc]) -> Margins:
        """Margins of the documents."""
        found = [self._margins_of_part(part) for part in _parts(docs)]
        margins = np.concatenate([np.zeros((0, self.labels), dtype=np.float32), *(one for one, _ in found)])
        coverage = np.concatenate([np.zeros(0, dtype=np.float32), *(one for _, one in found)])
        if self.dense is None:
            return Margins(margins, coverage)
        values = self.dense.values_of(docs)
        margins = margins + values @ self.dense.weights
        return Margins(margins, coverage, self.dense.centroid_similarity(values))

    def _margins_of_part(self, docs: Sequence[Doc]) -> tuple[Floats, Floats]:
        """Margins of the n-grams, and their coverage."""
        weights = self._weights
        margins, coverage = weights.margins(self._features(docs))
        if self.dense is not None:
            margins = self._ngrams_weight * (margins - weights.bias) + weights.bias
        view = CHARACTERS if self._features.char_sizes else WORDS
        return margins, coverage[:, view]

    def begin_update(self, docs: Sequence[Doc]) -> tuple[Floats, Callable[[LossTargets], None]]:
        """Margins, and a function that stores the loss targets until `finish_update`."""
        learning, values = self.learning_weights(), None
        read = [self._training_features(learning, part) for part in _parts(docs)]
        margins = np.concatenate([learning.margins_of(design) for design, _ in read])
        if self.dense is not None:
            values = self.dense.values_of(docs)
            margins = margins + values @ self.dense.weights
        return margins, lambda targets: self._pending.append(PendingBatch(read, targets, values))

    def _training_features(
        self, learning: LearningWeights, docs: Sequence[Doc]
    ) -> tuple[DesignMatrix, NewFeatures]:
        features = self._features(docs)
        new = learning.new_features(features)
        rarity = learning.frequencies.rarity
        design = design_matrix(features, learning.rows.table, rarity, new=new.buckets)
        if self.dense is not None:
            design = replace(design, values=design.values * self._ngrams_weight)
        return design, new

    def rehearse(self, docs: Sequence[Doc], targets: Floats) -> float:
        """Accumulate the gradient of the squared distance of the margins to `targets`, and return its mean.

        `targets` (texts, labels) may lack the newest labels, which are unknown. No label counts as true: the
        centroids of the vectors stay.
        """
        margins, accumulate = self.begin_update(docs)
        gradient = np.zeros_like(margins)
        difference = margins[:, : targets.shape[1]] - targets
        gradient[:, : targets.shape[1]] = 2.0 * difference
        weights = np.ones(len(margins), dtype=np.float32)
        accumulate(LossTargets(gradient, np.zeros(margins.shape, dtype=bool), weights))
        return float(np.square(difference).mean()) if difference.size else 0.0

    def finish_update(self, optimizer: Any) -> None:  # noqa: ARG002 - the step size is the shim's own
        """Apply the pending gradients at the learn rate of the classifier."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        learning, parts = self.learning_weights(), [part for batch in pending for part in batch.parts()]
        for design, new, _, weights in parts:
            learning.record(new, design, weights)
        if self.config.exclusive_classes:
            # Weight decay changes the size of margins, which decides if labels are not exclusive.
            texts = sum(float(weights.sum()) for *_, weights in parts)
            learning.shrink(texts, learn_rate=self.learn_rate)
        steps = [_weight_gradient(design, gradient) for design, _, gradient, _ in parts]
        self._step([step for step in steps if step])
        if self.dense is not None:
            rate = self.learn_rate * self._dense_rate
            self.dense.step([_dense_gradient(batch) for batch in pending], learn_rate=rate)

    def all_finite(self) -> bool:
        return super().all_finite() and (self.dense is None or self.dense.all_finite())

    def initialize(self, labels: int, language: str) -> None:
        """Replace the weights by new ones for this number of labels, and load the tables of the language."""
        features = self.config.features
        if self.config.word_clusters:
            features = replace(features, clusters=clusters.word_clusters(language))
        if self.config.word_polarities:
            features = replace(features, polarities=polarities.word_polarities(language))
        self._features = features
        self.dense = self._new_dense(labels)
        self.reset(labels)

    def add_labels(self, labels: int) -> None:
        """Grow to this number of labels. Existing weights stay."""
        if labels > self.labels:
            self._pending = []
            if self.dense is not None:
                self.dense.add_labels(labels)
            self.learning_weights().add_labels(labels)

    def to_bytes(self) -> bytes:
        """The weights: in the training form if it is in memory, otherwise in the serving form."""
        sparse = super().to_bytes()
        return sparse if self.dense is None else DENSE_PREFIX + self.dense.to_bytes() + sparse

    def from_bytes(self, data: bytes) -> Self:
        """Restore the weights of `to_bytes`.

        Raises ValueError for other bytes, and EncoderMismatch for weights of other vectors. Raises ModelError
        for weights of another `table_bits`, and if only the weights or only the config has vectors.
        """
        if self.dense is None:
            if data[:1] == DENSE_PREFIX:
                raise ModelError(
                    "the text classifier was trained with vectors, and its config has none. Restore "
                    "`vectors` in the config of its model, or train it again"
                )
            return super().from_bytes(data)
        if data[:1] != DENSE_PREFIX:
            raise ModelError(
                "the text classifier was trained without vectors, and its config has some. Remove `vectors` "
                "from the config of its model, or train it again"
            )
        dense, sparse = self.dense.restored(data[1:])
        super().from_bytes(sparse)
        dense.require_labels(self.labels)
        self.dense = dense
        return self

    def _pack(self, arrays: Arrays) -> bytes:
        tables = {**self._features.clusters.arrays(), **self._features.polarities.arrays()}
        return super()._pack({**arrays, **tables})

    def _restore(self, form: bytes, arrays: Arrays) -> None:
        features = replace(
            self.config.features,
            clusters=clusters.WordClusters.from_arrays(arrays),
            polarities=polarities.WordPolarities.from_arrays(arrays),
        )
        super()._restore(form, arrays)
        self._features = features


def _parts(docs: Sequence[Doc]) -> list[Sequence[Doc]]:
    return [docs[start : start + TEXTS_PER_PART] for start in range(0, len(docs), TEXTS_PER_PART)]


def _dense_gradient(batch: PendingBatch) -> tuple[Floats, Floats]:
    """Gradient of the vectors' weights, and additions to the centroids."""
    values: Any = batch.values
    true = (batch.targets.true * batch.targets.weights[:, None]).astype(np.float32)
    return values.T @ batch.targets.gradient, values.T @ true


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


def sparse_ngrams(
    exclusive_classes: bool,
    learn_rate: float = 0.1,
    char_sizes: Sequence[int] = (2, 3, 4, 5),
    max_words: int = 500,
    pair_words: int = 32,
    word_clusters: bool = True,
    word_polarities: bool = True,
    table_bits: int = 20,
    max_rows: int = 262_144,
    vectors: SentenceVectors | None = None,
    vectors_weight: float = 1.0,
    ngrams_weight: float = 0.5,
    rarity_power: float = FORMER_POWER,
    initial_square: float = INITIAL_SQUARE,
    nO: int | None = None,
) -> Model[list[Doc], Floats2d]:
    """Build the classifier.

    exclusive_classes: whether exactly one label is true of a text.
    learn_rate: of AdaGrad; it replaces the one of spaCy's optimizer.
    char_sizes: lengths of the character n-grams.
    max_words: maximum number of words that are used of a text. Only the first `pair_words` make pairs.
    word_clusters, word_polarities: whether `initialize` loads the Brown clusters of the language, and VADER's
        lexicon of polarities. Only English has them.
    table_bits: features fall into `2**table_bits` buckets.
    max_rows: features with weights; a full table evicts those with the smallest weights.
    vectors: of the text, in addition to its n-grams. The two weights apply only with vectors.
    rarity_power: power of the inverse document frequency of new weights. Saved weights keep their own.
    initial_square: start of AdaGrad's sums of squares. A larger one makes the steps of rare features smaller.
    """
    config = SparseNgramsConfig(
        exclusive_classes=exclusive_classes,
        learn_rate=learn_rate,
        rarity_power=rarity_power,
        features=TextNgrams(tuple(char_sizes), max_words, pair_words, table_bits),
        word_clusters=word_clusters,
        word_polarities=word_polarities,
        rows=RowOptions(table_bits, max_rows, initial_square),
        vectors=vectors,
        vectors_weight=vectors_weight,
        ngrams_weight=ngrams_weight,
    )
    shim = SparseNgramsShim(config)
    shim.add_labels(nO or 0)
    return Model(
        "sparse_ngrams",
        _forward,
        init=_initialize,
        shims=[shim],
        dims={"nO": nO},
        attrs={"resize_output": _resize_output},
    )


def sparse_ngrams_v2(
    exclusive_classes: bool,
    learn_rate: float = 0.2,
    char_sizes: Sequence[int] = (2, 3, 4, 5),
    max_words: int = 500,
    pair_words: int = 32,
    word_clusters: bool = True,
    word_polarities: bool = True,
    table_bits: int = 20,
    max_rows: int = 262_144,
    vectors: SentenceVectors | None = None,
    vectors_weight: float = 1.0,
    ngrams_weight: float = 0.5,
    rarity_power: float = 0.75,
    initial_square: float = 3.0,
    nO: int | None = None,
) -> Model[list[Doc], Floats2d]:
    """`sparse_ngrams` with other defaults, which are better for exclusive labels with few texts."""
    return sparse_ngrams(
        exclusive_classes,
        learn_rate=learn_rate,
        char_sizes=char_sizes,
        max_words=max_words,
        pair_words=pair_words,
        word_clusters=word_clusters,
        word_polarities=word_polarities,
        table_bits=table_bits,
        max_rows=max_rows,
        vectors=vectors,
        vectors_weight=vectors_weight,
        ngrams_weight=ngrams_weight,
        rarity_power=rarity_power,
        initial_square=initial_square,
        nO=nO,
    )


def _forward(
    model: Model[list[Doc], Floats2d], docs: list[Doc], is_train: bool
) -> tuple[Floats2d, Callable[[Floats2d], list[Doc]]]:
    """Probabilities. Backprop expects the gradient of spaCy's text categorizers, `probabilities - truths`.

    It computes the truths from them, and minimizes the squared hinge loss of the margins.
    """
    shim: Any = model.shims[0]
    exclusive = shim.config.exclusive_classes
    if not is_train:
        scores: Any = probabilities(shim.margins(docs).margins, MARGIN_SCALE, exclusive=exclusive)
        return scores, lambda _: []
    margins, accumulate = shim.begin_update(docs)
    scores = probabilities(margins, MARGIN_SCALE, exclusive=exclusive)

    def backprop(difference: Any) -> list[Doc]:
        truths = scores - difference
        truths[(difference == 0) & (scores > 0) & (scores < 1)] = np.nan  # masked: the truth is unknown
        weights = (~np.isnan(truths).all(axis=1)).astype(np.float32)
        if shim.sample_weights is not None:
            weights *= shim.sample_weights
        true = (truths == 1.0) & (difference != 0)  # a score of 1 can be a masked one
        accumulate(LossTargets(squared_hinge_gradient(margins, truths) * weights[:, None], true, weights))
        return []

    return scores, backprop


def _initialize(model: Model[Any, Any], X: Any = None, Y: Any = None) -> None:
    shim: Any = model.shims[0]
    shim.initialize(shim.labels if Y is None else Y.shape[1], X[0].vocab.lang if X else "")
    model.set_dim("nO", shim.labels, force=True)


def _resize_output(model: Model[Any, Any], labels: int) -> Model[Any, Any]:
    shim: Any = model.shims[0]
    shim.add_labels(labels)
    model.set_dim("nO", labels, force=True)
    return model
