"""A row of weights for each feature that was learned from, in two forms: one learns, one serves."""

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.bucket_rows import NO_ROW, BucketRows
from karen_learner.components.row_coding import quantize, require_shape
from karen_learner.components.sparse_rows import SparseRows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]

EVICTED_SHARE = 0.25
"""The share of rows, those with the smallest weights, that make room when the table is full."""


@dataclass(frozen=True)
class RowOptions:
    """Features fall into `2**bits` buckets, `max_rows` have weights, and AdaGrad's sums begin with
    `initial_square`."""

    bits: int
    max_rows: int
    initial_square: float


@dataclass(frozen=True)
class ServedRows:
    """Eight bits a weight, a scale a row: `quantized` has shape (rows, columns), `scales` (rows,)."""

    NAMES = ("buckets", "quantized", "scales")

    table: BucketRows
    quantized: NDArray[np.int8]
    scales: Floats

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.quantized.nbytes + self.scales.nbytes

    @property
    def weights(self) -> Floats:
        """The weights in float32, shape (rows, columns); a copy."""
        return self.quantized.astype(np.float32) * self.scales[:, None]

    def digest_with(self, *others: NDArray[Any]) -> str:
        """Tells these weights, and what goes with them, from all others."""
        total = hashlib.blake2b(digest_size=16)
        for array in (self.table.buckets, self.quantized, self.scales, *others):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    def arrays(self) -> Arrays:
        buckets = self.table.buckets.astype(np.uint32)
        return {"buckets": buckets, "quantized": self.quantized, "scales": self.scales}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays, *, columns: int) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        rows = len(arrays["buckets"]) + 1
        require_shape(arrays["quantized"], (rows, columns), "weights")
        require_shape(arrays["scales"], (rows,), "scales")
        table = BucketRows.from_buckets(bits, arrays["buckets"].astype(np.int64))
        return cls(table, arrays["quantized"], arrays["scales"])


class FeatureRows:
    """Float32 weights and AdaGrad's sums of squares.

    A feature gets its row when it is first learned from. At `max_rows` the rows with the smallest weights
    make room.
    """

    NAMES = ("buckets", "weights", "squares")

    def __init__(self, table: BucketRows, rows: SparseRows, *, max_rows: int) -> None:
        self.table = table
        self._rows = rows
        self._max_rows = max_rows

    @classmethod
    def new(cls, options: RowOptions, columns: int) -> Self:
        """No rows yet."""
        rows = SparseRows(1, columns, initial_square=options.initial_square)
        return cls(BucketRows(options.bits), rows, max_rows=options.max_rows)

    @property
    def columns(self) -> int:
        return self._rows.shape[1]

    @property
    def weights(self) -> Floats:
        """The weights, shape (rows, columns); a view."""
        return self._rows.weights

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self._rows.nbytes

    def widen(self, columns: int) -> None:
        """Make it at least so many columns. New weights are zero."""
        self._rows.grow(len(self.table), columns)

    def take(self, rows: Ints) -> Floats:
        """The weights of these rows; a copy of shape (rows, columns)."""
        return self._rows.take(rows)

    def step(self, buckets: Ints, columns: Ints, gradient: Floats, *, learn_rate: float) -> None:
        """Move the weights of these features and columns (each once) against their gradient.

        Features that have no row get one.
        """
        if len(self.table) + int((self.table.look_up(buckets) == NO_ROW).sum()) > self._max_rows:
            self._make_room()
        self.table.allot(buckets, limit=self._max_rows)
        self._rows.grow(len(self.table), self.columns)
        rows = self.table.look_up(buckets)
        there = rows != NO_ROW
        if not there.all():
            rows, gradient = rows[there], gradient[there]
        self._rows.step(rows, columns, gradient, learn_rate=learn_rate)

    def _make_room(self) -> None:
        """Drop the rows with the smallest weights, unless as many are free already."""
        fullness = len(self.table) - 1
        if fullness <= (1.0 - EVICTED_SHARE) * self._max_rows:
            return
        sizes = np.abs(self.weights[1 : len(self.table)]).max(axis=1, initial=0.0)
        kept = np.sort(np.argsort(sizes, kind="stable")[int(EVICTED_SHARE * fullness) :]) + 1
        self.table.keep(kept)
        self._rows.keep(kept)

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return bool(np.isfinite(self.weights.sum(dtype=np.float64)))

    def served(self) -> ServedRows:
        """The same in the form that serves. Rows that have learned nothing are left out."""
        quantized, scales = quantize(self.weights[: len(self.table)])
        learned = np.flatnonzero(scales)
        table = BucketRows.from_buckets(self.table.bits, self.table.buckets[learned - 1])
        kept = np.concatenate([np.zeros(1, dtype=np.int64), learned])
        return ServedRows(table, quantized[kept], scales[kept])

    def arrays(self) -> Arrays:
        used = len(self.table)
        return {
            "buckets": self.table.buckets.astype(np.uint32),
            "weights": self.weights[:used],
            "squares": self._rows.squares[:used],
        }

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays, *, columns: int) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        weights, squares = arrays["weights"], arrays["squares"]
        require_shape(weights, (len(arrays["buckets"]) + 1, columns), "weights")
        table = BucketRows.from_buckets(options.bits, arrays["buckets"].astype(np.int64))
        rows = SparseRows.from_arrays(weights, squares, initial_square=options.initial_square)
        return cls(table, rows, max_rows=options.max_rows)

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedRows) -> Self:
        """Where nothing but what serves is left: it goes on from there, with new sums of squares."""
        table = BucketRows.from_buckets(options.bits, served.table.buckets)
        rows = SparseRows.fresh(served.weights, initial_square=options.initial_square)
        return cls(table, rows, max_rows=options.max_rows)
