"""The weights of a linear chain over sparse features, in two forms: one that learns, one that serves."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.entity_tags import (
    forbidden_starts,
    forbidden_transitions,
    label_count,
    tag_count,
)
from karen_learner.components.feature_rows import FeatureRows, RowOptions, ServedRows
from karen_learner.components.row_coding import require_names, require_shape
from karen_learner.components.sparse_rows import SparseRows
from karen_learner.components.weight_forms import Step

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]

START, END, BIAS, FIRST_TRANSITION = 0, 1, 2, 3
"""Rows of the chain's own table: what a tag is worth at the start, at the end, anywhere; then transitions."""
NEW_LABEL_BIAS = -1.0
"""A label that is new to a chain that has others begins below them, so that it is not guessed untaught."""


@dataclass(frozen=True)
class ServedChain:
    """What a pipeline needs for answering: weights of features, and `chain`, as `LearningChain` has it."""

    rows: ServedRows
    chain: Floats

    @property
    def labels(self) -> int:
        return label_count(self.chain.shape[1])

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self.chain.nbytes

    def feature_weights(self, buckets: Ints) -> Floats:
        """The weights of the features in these buckets; shape (features, tags), zero where there are none."""
        rows = self.rows.table.look_up(buckets)
        return self.rows.quantized.take(rows, axis=0) * self.rows.scales.take(rows)[:, None]

    def digest(self) -> str:
        """Tells these weights from all others."""
        return self.rows.digest_with(self.chain)

    def arrays(self) -> Arrays:
        return {**self.rows.arrays(), "chain": self.chain}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        require_names(arrays, *ServedRows.NAMES, "chain")
        return cls(ServedRows.from_arrays(bits, arrays, columns=_tags_of(arrays)), arrays["chain"])


class LearningChain:
    """What learning needs: the weights with AdaGrad's sums of squares, and how many steps were made."""

    def __init__(self, rows: FeatureRows, chain: SparseRows, *, steps: int) -> None:
        self.rows = rows
        self.steps = steps
        self._chain = chain

    @classmethod
    def new(cls, options: RowOptions, labels: int) -> Self:
        """Weights that know nothing."""
        tags = tag_count(labels)
        chain = SparseRows(FIRST_TRANSITION + tags, tags, initial_square=options.initial_square)
        return cls(FeatureRows.new(options, tags), chain, steps=0)

    @property
    def tags(self) -> int:
        return self.rows.columns

    @property
    def labels(self) -> int:
        return label_count(self.tags)

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self._chain.nbytes

    @property
    def chain(self) -> Floats:
        """What stands in front of the features; shape (FIRST_TRANSITION + tags, tags)."""
        return self._chain.weights

    def add_labels(self, labels: int) -> None:
        """Make it so many labels. What was learned stays."""
        old, tags = self.tags, tag_count(labels)
        if tags <= old:
            return
        self.rows.widen(tags)
        self._chain.grow(FIRST_TRANSITION + tags, tags)
        if self.steps:
            self._chain.weights[BIAS, old:] = NEW_LABEL_BIAS

    def feature_weights(self, buckets: Ints) -> Floats:
        """The weights of the features in these buckets; shape (features, tags), zero where there are none."""
        return np.ascontiguousarray(self.rows.take(self.rows.table.look_up(buckets)))

    def step(self, step: Step, *, learn_rate: float) -> None:
        """Move weights of features, and those of the chain (the others), against their gradients."""
        self.rows.step(step.buckets, step.columns, step.gradient, learn_rate=learn_rate)
        rows, tags = (np.arange(size) for size in step.other.shape)
        self._chain.step(rows, tags, step.other, learn_rate=learn_rate)
        self.steps += 1

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return self.rows.all_finite() and bool(np.isfinite(self.chain).all())

    def served(self) -> ServedChain:
        """The same in the form that serves."""
        return ServedChain(self.rows.served(), self.chain.copy())

    def arrays(self) -> Arrays:
        return {
            **self.rows.arrays(),
            "chain": self._chain.weights,
            "chain_squares": self._chain.squares,
            "steps": np.array([self.steps], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        require_names(arrays, *FeatureRows.NAMES, "chain", "chain_squares", "steps")
        rows = FeatureRows.from_arrays(options, arrays, columns=_tags_of(arrays))
        require_shape(arrays["steps"], (1,), "steps")
        chain = SparseRows.from_arrays(
            arrays["chain"], arrays["chain_squares"], initial_square=options.initial_square
        )
        return cls(rows, chain, steps=int(arrays["steps"][0]))

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedChain) -> Self:
        """Where nothing but the served weights is left: they go on from there, with new sums of squares."""
        chain = SparseRows.fresh(served.chain, initial_square=options.initial_square)
        return cls(FeatureRows.from_served(options, served.rows), chain, steps=1)


def chain_scores_of(chain: Floats) -> tuple[Floats, Floats, Floats]:
    """Transitions, start and end in log space, `-inf` where a tag is forbidden."""
    tags = chain.shape[1]
    transitions = np.where(forbidden_transitions(tags), np.float32(-np.inf), chain[FIRST_TRANSITION:])
    start = np.where(forbidden_starts(tags), np.float32(-np.inf), chain[START])
    return transitions, start, chain[END]


def _tags_of(arrays: Arrays) -> int:
    chain = arrays["chain"]
    tags = int(chain.shape[-1])
    require_shape(chain, (FIRST_TRANSITION + tags, tags), "transitions")
    return tags
