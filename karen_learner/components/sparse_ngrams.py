"""`karen_learner.SparseNgrams.v1`: a linear text classifier over hashed n-grams that learns on the fly.

Features are words and pairs of neighbouring words, character n-grams within words, unordered pairs of words,
and, in English, the kinds of words and how good or bad they sound (see `text_ngrams`), the rarer the heavier
(see `text_counts`). Each label has a separating plane of its own, trained with squared hinge loss:

    Rifkin, Klautau: In Defense of One-Vs-All Classification, JMLR 5 (2004).

The weights live in a `LearningShim`, which applies AdaGrad to the rows of the features present (see
`sparse_rows`). The optimizer that spaCy hands over only says *when* to step: its own rule would move every
weight of every row. Weights shrink a little with each text that is learned from (see `text_weights`). Dropout
is not applied: it gained nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from karen_learner.components.calibration import logistic, softmax
from karen_learner.components.design_matrix import DesignMatrix, design_matrix
from karen_learner.components.feature_rows import RowOptions
from karen_learner.components.learning_shim import LearningShim, first_shim
from karen_learner.components.text_ngrams import CHARACTERS, WORDS, TextNgrams
from karen_learner.components.text_weights import LearningWeights, Proposal, ServedWeights
from karen_learner.components.vectors import SentenceVectors
from karen_learner.components.weight_forms import Arrays, Step
from karen_learner.components.word_clusters import WordClusters
from karen_learner.components.word_clusters import word_clusters as clusters_of
from karen_learner.components.word_polarities import WordPolarities
from karen_learner.components.word_polarities import word_polarities as polarities_of
from karen_learner.errors import ModelError

Floats = NDArray[np.float32]
Waiting = tuple[DesignMatrix, Proposal, Floats, Floats]
"""A batch whose gradient waits: what was read, what it would add, the gradient of its margins, and what each
of its texts counts."""

TEXTS_AT_ONCE = 32
"""Larger batches are read in parts: the matrix of a part should stay in the processor's cache."""
INITIAL_SQUARE = 0.3
"""What AdaGrad's sums begin with: the first steps of a weight are proportional to its gradient."""
MARGIN_SCALE = 4.0
"""Margins times this go through softmax or the logistic function, until a pipe is calibrated."""
WITH_VECTORS = b"V"
"""What begins so comes from a classifier that is joined with vectors; see `dense_ngrams`."""


@dataclass(frozen=True)
class Margins:
    """What the classifier makes of a batch.

    `margins` (shape (texts, labels)): above 0 the text is on the side of the label. `familiarity` (shape
    (texts,)): how far a text consists of character n-grams (of words, where there are none) that were learned
    from, from 0 to 1. `nearness` (shape (texts, labels)): the cosine of the text's vector and the centre of
    each label's; None where there are no vectors.
    """

    margins: Floats
    familiarity: Floats
    nearness: Floats | None = None


@dataclass(frozen=True)
class Lesson:
    """What a backward pass brings.

    The `gradient` of the margins, and which labels are `true` of a text and not yet certain, have the shape
    (texts, labels); `weights` (texts,) is what each text counts.
    """

    gradient: Floats
    true: NDArray[np.bool_]
    weights: Floats


@dataclass(frozen=True)
class SparseNgramsConfig:
    """The choices that make the classifier; see `sparse_ngrams`."""

    exclusive_classes: bool
    learn_rate: float
    char_sizes: tuple[int, ...]
    max_words: int
    pair_words: int
    word_clusters: bool
    word_polarities: bool
    table_bits: int
    max_rows: int


class SparseNgramsShim(LearningShim[LearningWeights, ServedWeights, Waiting]):
    """The classifier: its features, its weights, and the gradients that wait for `finish_update`.

    `example_weights` (shape (texts,)): what the texts of the batch count in the next backward pass, if they
    do not all count the same.
    """

    architecture = "karen_learner.SparseNgrams"

    def __init__(self, config: SparseNgramsConfig) -> None:
        options = RowOptions(config.table_bits, config.max_rows, INITIAL_SQUARE)
        super().__init__(LearningWeights, ServedWeights, options, learn_rate=config.learn_rate)
        self.config = config
        self.example_weights: Floats | None = None
        self._features = self._ngrams(None, None)

    def _ngrams(self, clusters: WordClusters | None, polarities: WordPolarities | None) -> TextNgrams:
        config = self.config
        return TextNgrams(
            char_sizes=config.char_sizes,
            max_words=config.max_words,
            pair_words=config.pair_words,
            clusters=clusters,
            polarities=polarities,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseNgramsShim":
        return self._copied_to(SparseNgramsShim(self.config))

    def margins(self, docs: Sequence[Doc]) -> Margins:
        """What the classifier makes of the documents. Changes nothing."""
        parts = [self._margins_of_part(part) for part in _parts(docs)]
        return Margins(
            np.concatenate(
                [part.margins for part in parts] or [np.zeros((0, self.labels), dtype=np.float32)]
            ),
            np.concatenate([part.familiarity for part in parts] or [np.zeros(0, dtype=np.float32)]),
        )

    def _margins_of_part(self, docs: Sequence[Doc]) -> Margins:
        weights = self._weights
        design = design_matrix(self._features(docs), weights.rows.table, weights.counts)
        familiar = CHARACTERS if self.config.char_sizes else WORDS
        return Margins(weights.margins(design), design.coverage[:, familiar])

    def begin_learning(self, docs: Sequence[Doc]) -> tuple[Floats, Callable[[Lesson], None]]:
        """The margins, and a function that takes the lesson and keeps it until `finish_update`."""
        learning, parts = self.learning_weights(), _parts(docs)
        read = [self._read_for_learning(learning, part) for part in parts]
        margins = np.concatenate([learning.margins(design) for design, _ in read])

        def backprop(lesson: Lesson) -> None:
            ends = np.cumsum([len(part) for part in parts])
            for (design, proposal), end, part in zip(read, ends, parts, strict=True):
                own = slice(end - len(part), end)
                self._pending.append((design, proposal, lesson.gradient[own], lesson.weights[own]))

        return margins, backprop

    def _read_for_learning(
        self, learning: LearningWeights, docs: Sequence[Doc]
    ) -> tuple[DesignMatrix, Proposal]:
        features = self._features(docs)
        proposal = learning.propose(features)
        return design_matrix(features, learning.rows.table, learning.counts, new=proposal.buckets), proposal

    def finish_update(self, optimizer: Any) -> None:  # noqa: ARG002 - it is not asked how to step
        """Apply the gradients that wait, at this classifier's own learn rate."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        learning = self.learning_weights()
        for design, proposal, _, weights in pending:
            learning.note(proposal, design, weights)
        if self.config.exclusive_classes:
            # The order of the margins is what counts then; their size would be the decision otherwise.
            noted = sum(float(weights.sum()) for *_, weights in pending)
            learning.shrink(noted, learn_rate=self.learn_rate)
        steps = [_weight_gradient(design, gradient) for design, _, gradient, _ in pending]
        self._step([step for step in steps if step])

    def begin_anew(
        self, labels: int, *, clusters: WordClusters | None, polarities: WordPolarities | None
    ) -> None:
        """Begin from nothing, with so many labels, and with what is known of words."""
        self._features = self._ngrams(clusters, polarities)
        self.reset(labels)

    def add_labels(self, labels: int) -> None:
        """Make it so many labels. What was learned stays."""
        if labels > self.labels:
            self._pending = []
            self.learning_weights().add_labels(labels)

    def from_bytes(self, data: bytes) -> Self:
        """Take over what `to_bytes` or `served_bytes` has made.

        Raises ValueError if it is neither, ModelError if it was trained with vectors.
        """
        if data[:1] == WITH_VECTORS:
            raise ModelError(
                "the text classifier was trained with vectors, and its config names none. Put its `vectors` "
                "back into the config of its model, or train it anew"
            )
        return super().from_bytes(data)

    def _packed(self, arrays: Arrays) -> bytes:
        known = {**self._features.clusters.arrays(), **self._features.polarities.arrays()}
        return super()._packed({**arrays, **known})

    def _take_over(self, form: bytes, arrays: Arrays) -> None:
        features = self._ngrams(WordClusters.from_arrays(arrays), WordPolarities.from_arrays(arrays))
        super()._take_over(form, arrays)
        self._features = features


def _parts(docs: Sequence[Doc]) -> list[Sequence[Doc]]:
    return [docs[start : start + TEXTS_AT_ONCE] for start in range(0, len(docs), TEXTS_AT_ONCE)]


def _weight_gradient(design: DesignMatrix, gradient: Floats) -> Step | None:
    """The gradient of the weights and, as the other one, that of the biases. Texts and labels that are right
    with a margin have none."""
    active = gradient.any(axis=1)
    if not active.any():
        return None
    values, gradient = design.values[active], gradient[active]
    needed, wrong = np.flatnonzero(values.any(axis=0)), np.flatnonzero(gradient.any(axis=0))
    of_features = values[:, needed].T @ gradient[:, wrong]
    return Step(design.buckets[needed], wrong, of_features, gradient.sum(axis=0))


def squared_hinge(margins: Floats, truths: Floats) -> Floats:
    """`max(0, 1 - t * margin) ** 2` where t is 1 for a truth of 1.0 and -1 for 0.0; 0 where it is NaN."""
    return squared_hinge_gradient(margins, truths) ** 2 / np.float32(4.0)


def squared_hinge_gradient(margins: Floats, truths: Floats) -> Floats:
    """Gradient of `max(0, 1 - t * margin) ** 2` where t is 1 for a truth of 1.0 and -1 for 0.0.

    Where the truth is NaN nothing is known, and the gradient is 0. All shapes are (texts, labels).
    """
    signs = np.where(truths > 0.5, np.float32(1.0), np.float32(-1.0))
    gradient = -2.0 * signs * np.maximum(np.float32(0.0), 1.0 - signs * margins)
    gradient[np.isnan(truths)] = 0.0
    return np.asarray(gradient, dtype=np.float32)


def shim_of(model: Model[Any, Any]) -> SparseNgramsShim | None:
    """The classifier inside a model, if it is one of these."""
    return first_shim(model, SparseNgramsShim)


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
    nO: int | None = None,
) -> Model[list[Doc], Floats2d]:
    """Build the classifier.

    exclusive_classes: whether exactly one label is true of a text.
    learn_rate: AdaGrad's; spaCy's optimizer has no say in it.
    char_sizes: lengths of the character n-grams.
    max_words: only so many words of a text are read; pairs are made of the first `pair_words`.
    word_clusters, word_polarities: whether the pipe, when it is initialized, takes up the Brown clusters of
        its language, and VADER's lexicon of how good or bad words sound. Both are there for English alone.
    table_bits: features fall into `2**table_bits` buckets.
    max_rows: features with weights; when there are so many, those with the smallest weights make room.
    vectors: of the text, beside its n-grams; what the two weigh is heeded only if there are some.
    """
    if not 8 <= table_bits <= 28 or max_rows < 2 or max_words < 1 or pair_words < 0 or learn_rate <= 0:
        raise ValueError(
            "karen_learner.SparseNgrams.v1 needs 8 <= table_bits <= 28, max_rows >= 2, max_words >= 1, "
            "pair_words >= 0 and learn_rate > 0"
        )
    if any(size < 1 for size in char_sizes):
        raise ValueError("karen_learner.SparseNgrams.v1 needs char_sizes of 1 or more")
    config = SparseNgramsConfig(
        exclusive_classes,
        learn_rate,
        tuple(char_sizes),
        max_words,
        pair_words,
        word_clusters,
        word_polarities,
        table_bits,
        max_rows,
    )
    shim = _shim(config, vectors, vectors_weight=vectors_weight, ngrams_weight=ngrams_weight)
    shim.add_labels(nO or 0)
    return Model(
        "sparse_ngrams", _forward, init=_initialize, shims=[shim], attrs={"resize_output": _resize_output}
    )


def _shim(
    config: SparseNgramsConfig,
    vectors: SentenceVectors | None,
    *,
    vectors_weight: float,
    ngrams_weight: float,
) -> SparseNgramsShim:
    if vectors is None:
        return SparseNgramsShim(config)
    if vectors_weight <= 0 or ngrams_weight < 0:
        raise ValueError(
            "karen_learner.SparseNgrams.v1 with vectors needs vectors_weight > 0 and ngrams_weight >= 0"
        )
    from karen_learner.components.dense_ngrams import DenseNgramsShim  # it builds on this module

    return DenseNgramsShim(config, vectors, vectors_weight=vectors_weight, ngrams_weight=ngrams_weight)


def _forward(
    model: Model[list[Doc], Floats2d], docs: list[Doc], is_train: bool
) -> tuple[Floats2d, Callable[[Floats2d], list[Doc]]]:
    """Probabilities. Backprop takes what spaCy's text categorizers give it, `probabilities - truths`, and
    reads the truths out of it: the loss that is minimized is the squared hinge of the margins."""
    shim: Any = model.shims[0]
    squash: Any = softmax if shim.config.exclusive_classes else logistic
    if not is_train:
        return squash(shim.margins(docs).margins * np.float32(MARGIN_SCALE)), lambda _: []
    margins, accumulate = shim.begin_learning(docs)
    scores = squash(margins * np.float32(MARGIN_SCALE))

    def backprop(difference: Any) -> list[Doc]:
        truths = scores - difference
        truths[(difference == 0) & (scores > 0) & (scores < 1)] = np.nan  # masked: nothing is known
        weights = (~np.isnan(truths).all(axis=1)).astype(np.float32)
        if shim.example_weights is not None:
            weights *= shim.example_weights
        true = (truths == 1.0) & (difference != 0)  # a score of 1 may be masked
        accumulate(Lesson(squared_hinge_gradient(margins, truths) * weights[:, None], true, weights))
        return []

    return scores, backprop


def _initialize(model: Model[Any, Any], X: Any = None, Y: Any = None) -> None:
    shim: Any = model.shims[0]
    config, language = shim.config, X[0].vocab.lang if X else ""
    shim.begin_anew(
        shim.labels if Y is None else Y.shape[1],
        clusters=clusters_of(language) if config.word_clusters else None,
        polarities=polarities_of(language) if config.word_polarities else None,
    )


def _resize_output(model: Model[Any, Any], labels: int) -> Model[Any, Any]:
    shim: Any = model.shims[0]
    shim.add_labels(labels)
    return model
