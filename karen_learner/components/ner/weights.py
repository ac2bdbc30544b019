"""Weights of a linear chain over sparse features, in a training form and a serving form."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from thinc.api import NumpyOps

from karen_learner.components.arrays import Arrays, Floats, Ints, Mask, Places, require_names, require_shape
from karen_learner.components.ner.tags import TAGS_PER_LABEL
from karen_learner.components.online.feature_rows import (
    AdaGradTable,
    FeatureRows,
    RowOptions,
    ServedRows,
    Step,
    unique_below,
)

START, END, BIAS, FIRST_TRANSITION = 0, 1, 2, 3
"""Rows of the chain table: scores of a tag at the start, at the end, anywhere; then transitions."""
NEW_LABEL_BIAS = -1.0
"""Bias of a label that joins a trained chain. It prevents predictions of an untrained label."""


TOKENS_PER_SUM = 64
"""Tokens whose weights are summed at a time. The weights must fit into the processor's cache."""
_OPS: Any = NumpyOps()


@dataclass(frozen=True)
class ServedChain:
    """The serving form: eight-bit weights of features, and the `chain` table."""

    rows: ServedRows
    chain: Floats

    @property
    def labels(self) -> int:
        return label_count(self.chain.shape[1])

    def sums(self, buckets: Places) -> Floats:
        """Sum of the weights of each row of buckets, zero for unknown features; shape (rows, tags)."""
        sums = np.empty((len(buckets), self.chain.shape[1]), dtype=np.float32)
        for start in range(0, len(buckets), TOKENS_PER_SUM):
            part = slice(start, start + TOKENS_PER_SUM)
            rows = self.rows.table.rows_of(buckets[part])
            weights = self.rows.quantized.take(rows, axis=0).astype(np.float32)
            np.matmul(self.rows.scales[rows][:, None, :], weights, out=sums[part, None, :])
        return sums

    def digest(self) -> str:
        """Digest of these weights."""
        return self.rows.digest_with(self.chain)

    def arrays(self) -> Arrays:
        return {**self.rows.arrays(), "chain": self.chain}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        require_names(arrays, "chain")
        return cls(ServedRows.from_arrays(bits, arrays, columns=_tags_of(arrays)), arrays["chain"])


@dataclass(eq=False)
class LearningChain:
    """The training form: weights with AdaGrad's sums of squares, and the number of `steps`."""

    rows: FeatureRows
    table: AdaGradTable
    steps: int

    @classmethod
    def new(cls, options: RowOptions, labels: int) -> Self:
        """Weights of zero."""
        tags = tag_count(labels)
        zeros = np.zeros((FIRST_TRANSITION + tags, tags), dtype=np.float32)
        chain = AdaGradTable(zeros, initial_square=options.initial_square)
        return cls(FeatureRows.new(options, tags), chain, steps=0)

    @property
    def tags(self) -> int:
        return self.rows.shape[1]

    @property
    def labels(self) -> int:
        return label_count(self.tags)

    @property
    def chain(self) -> Floats:
        """The chain table, shape (FIRST_TRANSITION + tags, tags); a view."""
        return self.table.weights

    def add_labels(self, labels: int) -> None:
        """Grow to this number of labels. Existing weights stay."""
        old, tags = self.tags, tag_count(labels)
        if tags <= old:
            return
        self.rows.grow(0, tags)
        self.table.grow(FIRST_TRANSITION + tags, tags)
        if self.steps:
            self.table.weights[BIAS, old:] = NEW_LABEL_BIAS

    def sums(self, buckets: Places) -> Floats:
        """Sum of the weights of each row of buckets, zero for unknown features; shape (rows, tags)."""
        distinct, places = unique_below((1 << self.rows.table.bits) + 1, buckets.reshape(-1))
        sums: Floats = _OPS.gather_add(self.feature_weights(distinct), places.reshape(buckets.shape))
        return sums

    def feature_weights(self, buckets: Ints) -> Floats:
        """Weights of these buckets; shape (features, tags), zero for unknown features."""
        return np.ascontiguousarray(self.rows.take(self.rows.table.rows_of(buckets)))

    def step(self, step: Step, *, learn_rate: float) -> None:
        """One AdaGrad step on features and on the chain table (`step.other`)."""
        self.rows.step_buckets(step, learn_rate=learn_rate)
        rows, tags = (np.arange(size) for size in step.other.shape)
        self.table.step(rows, tags, step.other, learn_rate=learn_rate)
        self.steps += 1

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return self.rows.all_finite() and bool(np.isfinite(self.chain).all())

    def served(self) -> ServedChain:
        """The serving form."""
        return ServedChain(self.rows.served(), self.chain.copy())

    def arrays(self) -> Arrays:
        return {
            **self.rows.arrays(),
            "chain": self.table.weights,
            "chain_squares": self.table.squares,
            "steps": np.array([self.steps], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        require_names(arrays, "chain", "chain_squares", "steps")
        rows = FeatureRows.from_arrays(options, arrays, columns=_tags_of(arrays))
        require_shape(arrays["steps"], (1,), "steps")
        chain = AdaGradTable(arrays["chain"], arrays["chain_squares"], initial_square=options.initial_square)
        return cls(rows, chain, steps=int(arrays["steps"][0]))

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedChain) -> Self:
        """The training form of served weights, with new sums of squares."""
        chain = AdaGradTable(served.chain, initial_square=options.initial_square)
        return cls(FeatureRows.from_served(options, served.rows), chain, steps=1)


def tag_count(labels: int) -> int:
    """Number of tags of this number of labels."""
    return 1 + TAGS_PER_LABEL * labels


def label_count(tags: int) -> int:
    """Number of labels with this number of tags."""
    return (tags - 1) // TAGS_PER_LABEL


def forbidden_transitions(tags: int) -> Mask:
    """Mask of the forbidden transitions, from row to column: I- follows only B- or I- of its label."""
    inside = np.arange(2, tags, TAGS_PER_LABEL)
    forbidden = np.zeros((tags, tags), dtype=bool)
    forbidden[:, inside] = True
    forbidden[inside, inside] = forbidden[inside - 1, inside] = False
    return forbidden


def forbidden_starts(tags: int) -> Mask:
    """Mask of the tags that cannot come first: every I-."""
    forbidden = np.zeros(tags, dtype=bool)
    forbidden[2::TAGS_PER_LABEL] = True
    return forbidden


def chain_scores_of(chain: Floats) -> tuple[Floats, Floats, Floats]:
    """Transitions, start and end in log space, `-inf` for forbidden tags."""
    tags = chain.shape[1]
    transitions = np.where(forbidden_transitions(tags), np.float32(-np.inf), chain[FIRST_TRANSITION:])
    start = np.where(forbidden_starts(tags), np.float32(-np.inf), chain[START])
    return transitions, start, chain[END]


def _tags_of(arrays: Arrays) -> int:
    chain = arrays["chain"]
    tags = int(chain.shape[-1])
    require_shape(chain, (FIRST_TRANSITION + tags, tags), "transitions")
    return tags
