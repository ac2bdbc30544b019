"""The weights of a linear chain over sparse features, in two forms: one that learns, one that serves."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from karen_learner.components.bucket_rows import NO_ROW, BucketRows
from karen_learner.components.entity_tags import forbidden_starts, forbidden_transitions, tag_count
from karen_learner.components.row_coding import quantize
from karen_learner.components.sparse_rows import SparseRows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]

START, END, BIAS, FIRST_TRANSITION = 0, 1, 2, 3
"""Rows of the chain's own table: what a tag is worth at the start, at the end, anywhere; then transitions."""
NEW_LABEL_BIAS = -1.0
"""A label that is new to a chain that has others begins below them, so that it is not guessed untaught."""
EVICTED_SHARE = 0.25
"""The share of rows, those with the smallest weights, that make room when the table is full."""


@dataclass(frozen=True)
class ServedChain:
    """What a pipeline needs for answering: eight bits a weight of a feature, a scale a row.

    `quantized` has shape (rows, tags), `scales` (rows,), `chain` (FIRST_TRANSITION + tags, tags).
    """

    table: BucketRows
    quantized: NDArray[np.int8]
    scales: Floats
    chain: Floats

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.quantized.nbytes + self.scales.nbytes + self.chain.nbytes

    def feature_weights(self, buckets: Ints) -> Floats:
        """The weights of the features in these buckets; shape (features, tags), zero where there are none."""
        rows = self.table.look_up(buckets)
        return self.quantized.take(rows, axis=0) * self.scales.take(rows)[:, None]

    def digest(self) -> str:
        """Tells these weights from all others."""
        total = hashlib.blake2b(digest_size=16)
        for array in (self.table.buckets, self.quantized, self.scales, self.chain):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    def arrays(self) -> Arrays:
        buckets = self.table.buckets.astype(np.uint32)
        return {"buckets": buckets, "quantized": self.quantized, "scales": self.scales, "chain": self.chain}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        _require_names(arrays, "buckets", "quantized", "scales", "chain")
        rows, tags = len(arrays["buckets"]) + 1, arrays["chain"].shape[-1]
        _require(arrays["quantized"], (rows, tags), "weights")
        _require(arrays["scales"], (rows,), "scales")
        _require(arrays["chain"], (FIRST_TRANSITION + tags, tags), "transitions")
        table = BucketRows.from_buckets(bits, arrays["buckets"].astype(np.int64))
        return cls(table, arrays["quantized"], arrays["scales"], arrays["chain"])


class LearningChain:
    """What learning needs: float32 weights and AdaGrad's sums of squares.

    A feature gets its row when it is first learned from. At `max_rows` the rows with the smallest weights
    make room.
    """

    def __init__(
        self,
        table: BucketRows,
        rows: SparseRows,
        chain: SparseRows,
        *,
        steps: int,
        initial_square: float,
        max_rows: int,
    ) -> None:
        self.table = table
        self.rows = rows
        self.steps = steps
        self._chain = chain
        self._initial_square = initial_square
        self._max_rows = max_rows

    @classmethod
    def new(cls, bits: int, labels: int, *, initial_square: float, max_rows: int) -> Self:
        """Weights that know nothing."""
        tags = tag_count(labels)
        return cls(
            BucketRows(bits),
            SparseRows(1, tags, initial_square=initial_square),
            SparseRows(FIRST_TRANSITION + tags, tags, initial_square=initial_square),
            steps=0,
            initial_square=initial_square,
            max_rows=max_rows,
        )

    @property
    def tags(self) -> int:
        return self.rows.shape[1]

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.rows.nbytes + self._chain.nbytes

    @property
    def chain(self) -> Floats:
        """What stands in front of the features; shape (FIRST_TRANSITION + tags, tags)."""
        return self._chain.weights

    def add_labels(self, labels: int) -> None:
        """Make it so many labels. What was learned stays."""
        old, tags = self.tags, tag_count(labels)
        if tags <= old:
            return
        self.rows.grow(self.rows.shape[0], tags)
        self._chain.grow(FIRST_TRANSITION + tags, tags)
        if self.steps:
            self._chain.weights[BIAS, old:] = NEW_LABEL_BIAS

    def feature_weights(self, buckets: Ints) -> Floats:
        """The weights of the features in these buckets; shape (features, tags), zero where there are none."""
        return np.ascontiguousarray(self.rows.take(self.table.look_up(buckets)))

    def step(self, buckets: Ints, gradient: Floats, chain_gradient: Floats, *, learn_rate: float) -> None:
        """Move the weights of these features (each once) and of the chain against their gradients.

        Features that have no row get one.
        """
        if len(self.table) + int((self.table.look_up(buckets) == NO_ROW).sum()) > self._max_rows:
            self._make_room()
        self.table.allot(buckets, limit=self._max_rows)
        self.rows.grow(len(self.table), self.tags)
        rows = self.table.look_up(buckets)
        there = rows != NO_ROW
        if not there.all():
            rows, gradient = rows[there], gradient[there]
        self.rows.step(rows, gradient, learn_rate=learn_rate)
        self._chain.step(np.arange(len(chain_gradient)), chain_gradient, learn_rate=learn_rate)
        self.steps += 1

    def _make_room(self) -> None:
        """Drop the rows with the smallest weights, unless that has been done recently."""
        fullness = len(self.table) - 1
        if fullness <= (1.0 - EVICTED_SHARE) * self._max_rows:
            return
        sizes = np.abs(self.rows.weights[1 : len(self.table)]).max(axis=1, initial=0.0)
        kept = np.sort(np.argsort(sizes, kind="stable")[int(EVICTED_SHARE * fullness) :]) + 1
        self.table.keep(kept)
        self.rows.keep(kept)

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return bool(
            np.isfinite(self.rows.weights.sum(dtype=np.float64)) and np.isfinite(self._chain.weights).all()
        )

    def served(self) -> ServedChain:
        """The same in the form that serves. Rows that have learned nothing are left out."""
        weights = self.rows.weights[: len(self.table)]
        kept = np.flatnonzero(weights.any(axis=1))
        table = BucketRows.from_buckets(self.table.bits, self.table.buckets[kept - 1])
        quantized, scales = quantize(np.concatenate([np.zeros_like(weights[:1]), weights[kept]]))
        return ServedChain(table, quantized, scales, self.chain.copy())

    def arrays(self) -> Arrays:
        used = len(self.table)
        return {
            "buckets": self.table.buckets.astype(np.uint32),
            "weights": self.rows.weights[:used],
            "squares": self.rows.squares[:used],
            "chain": self._chain.weights,
            "chain_squares": self._chain.squares,
            "steps": np.array([self.steps], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays, *, initial_square: float, max_rows: int) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        _require_names(arrays, "buckets", "weights", "squares", "chain", "chain_squares", "steps")
        tags = arrays["chain"].shape[-1]
        _require(arrays["weights"], (len(arrays["buckets"]) + 1, tags), "weights")
        _require(arrays["chain"], (FIRST_TRANSITION + tags, tags), "transitions")
        _require(arrays["steps"], (1,), "steps")
        return cls(
            BucketRows.from_buckets(bits, arrays["buckets"].astype(np.int64)),
            SparseRows.from_arrays(arrays["weights"], arrays["squares"], initial_square=initial_square),
            SparseRows.from_arrays(arrays["chain"], arrays["chain_squares"], initial_square=initial_square),
            steps=int(arrays["steps"][0]),
            initial_square=initial_square,
            max_rows=max_rows,
        )

    @classmethod
    def from_served(cls, served: ServedChain, *, initial_square: float, max_rows: int) -> Self:
        """Where nothing but the served weights is left: they go on from there, with new sums of squares."""
        weights = served.quantized.astype(np.float32) * served.scales[:, None]
        return cls(
            BucketRows.from_buckets(served.table.bits, served.table.buckets),
            SparseRows.from_arrays(weights, np.zeros_like(weights), initial_square=initial_square),
            SparseRows.from_arrays(served.chain, np.zeros_like(served.chain), initial_square=initial_square),
            steps=1,
            initial_square=initial_square,
            max_rows=max_rows,
        )


def chain_scores_of(chain: Floats) -> tuple[Floats, Floats, Floats]:
    """Transitions, start and end in log space, `-inf` where a tag is forbidden."""
    tags = chain.shape[1]
    transitions = np.where(forbidden_transitions(tags), np.float32(-np.inf), chain[FIRST_TRANSITION:])
    start = np.where(forbidden_starts(tags), np.float32(-np.inf), chain[START])
    return transitions, start, chain[END]


def _require_names(arrays: Arrays, *names: str) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"the weights lack {', '.join(missing)}: the file is damaged, or of something else")


def _require(array: NDArray[Any], shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape:
        raise ValueError(f"the {what} have the shape {array.shape}, not {shape}: the file is damaged")
