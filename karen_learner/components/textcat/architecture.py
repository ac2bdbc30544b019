"""`karen_learner.SparseNgrams.v1`: a linear text classifier over hashed n-grams, trained online.

Features are words, pairs of neighbours, character n-grams and unordered pairs of words (see `features`).
English also has word clusters and polarities. Rare features have larger values.

The weights are in a `LearningShim`. AdaGrad updates only the rows of present features. spaCy's optimizer sets
the time of a step, not its size. Weights decay with each trained text. Dropout is not applied.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from karen_learner.components.online.feature_rows import RowOptions
from karen_learner.components.textcat.calibration import MARGIN_SCALE, probabilities
from karen_learner.components.textcat.dense import INITIAL_SQUARE
from karen_learner.components.textcat.features import TextNgrams
from karen_learner.components.textcat.shim import (
    LossTargets,
    SparseNgramsConfig,
    SparseNgramsShim,
    squared_hinge_gradient,
)
from karen_learner.components.vectors.base import SentenceVectors


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
    learn_rate: of AdaGrad; it replaces the one of spaCy's optimizer.
    char_sizes: lengths of the character n-grams.
    max_words: maximum number of words that are used of a text. Only the first `pair_words` make pairs.
    word_clusters, word_polarities: whether `initialize` loads the Brown clusters of the language, and VADER's
        lexicon of polarities. Only English has them.
    table_bits: features fall into `2**table_bits` buckets.
    max_rows: features with weights; a full table evicts those with the smallest weights.
    vectors: of the text, in addition to its n-grams. The two weights apply only with vectors.
    """
    if not 8 <= table_bits <= 28 or max_rows < 2 or max_words < 1 or pair_words < 0 or learn_rate <= 0:
        raise ValueError(
            "karen_learner.SparseNgrams.v1 needs 8 <= table_bits <= 28, max_rows >= 2, max_words >= 1, "
            "pair_words >= 0 and learn_rate > 0"
        )
    if any(size < 1 for size in char_sizes):
        raise ValueError("karen_learner.SparseNgrams.v1 needs char_sizes of 1 or more")
    if vectors is not None and (vectors_weight <= 0 or ngrams_weight < 0):
        raise ValueError(
            "karen_learner.SparseNgrams.v1 with vectors needs vectors_weight > 0 and ngrams_weight >= 0"
        )
    config = SparseNgramsConfig(
        exclusive_classes=exclusive_classes,
        learn_rate=learn_rate,
        features=TextNgrams(tuple(char_sizes), max_words, pair_words),
        word_clusters=word_clusters,
        word_polarities=word_polarities,
        rows=RowOptions(table_bits, max_rows, INITIAL_SQUARE),
        vectors=vectors,
        vectors_weight=vectors_weight,
        ngrams_weight=ngrams_weight,
    )
    shim = SparseNgramsShim(config)
    shim.add_labels(nO or 0)
    return Model(
        "sparse_ngrams", _forward, init=_initialize, shims=[shim], attrs={"resize_output": _resize_output}
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


def _resize_output(model: Model[Any, Any], labels: int) -> Model[Any, Any]:
    shim: Any = model.shims[0]
    shim.add_labels(labels)
    return model
