"""Weight tables with one row for each learned feature.

`BucketRows` maps features to rows, and `AdaGradTable` trains the weights. `FeatureRows` joins both for
training. `ServedRows` is the small form for predictions.

Duchi, Hazan, Singer: Adaptive Subgradient Methods for Online Learning and Stochastic Optimization, JMLR 12
(2011).
"""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from karen_learner.components.arrays import (
    AnyArray,
    Arrays,
    Bytes8,
    Floats,
    Ints,
    Places,
    quantize,
    require_names,
    require_shape,
)

NO_ROW = 0
"""The row of features without weights. Its weights are always zero."""
EVICTED_SHARE = 0.25
"""Share of feature rows that a full table evicts, smallest weights first."""
COLUMN_STEP = 8
_ROW_0, _NO_BUCKETS = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class RowOptions:
    """Sizes: `2**bits` buckets, at most `max_rows` feature rows. AdaGrad starts at `initial_square`."""

    bits: int
    max_rows: int
    initial_square: float


@dataclass(frozen=True)
class Step:
    """Gradient of a batch.

    `gradient` (features, columns): of the weights of `buckets` (features,) and `columns` (columns,), each
    once. All other columns have gradient 0. `other`: of the weights that belong to no feature.
    """

    buckets: Ints
    columns: Ints
    gradient: Floats
    other: Floats


class BucketRows:
    """Feature rows by bucket. A hash falls into one of `2**bits` buckets; a bucket gets its row on first use.

    Row 0 belongs to no bucket. The bucket `2**bits` has no row: it stands for no feature. The map takes 4
    bytes a bucket.
    """

    def __init__(self, bits: int, buckets: Ints = _NO_BUCKETS) -> None:
        """The map in which row i + 1 belongs to `buckets[i]`. Raises ValueError for buckets out of range."""
        if len(buckets) and (buckets.min() < 0 or buckets.max() >= 1 << bits):
            raise ValueError(f"a bucket is outside the table of 2**{bits}: the weights are of another model")
        self.bits = bits
        self._shift = np.uint64(64 - bits)
        self._buckets = np.concatenate([_ROW_0, buckets])
        self._count = len(self._buckets)
        self._rows = np.zeros((1 << bits) + 1, dtype=np.int32)  # the last bucket stays empty
        self._rows[buckets] = np.arange(1, self._count)

    def __len__(self) -> int:
        """Number of feature rows, with row 0."""
        return self._count

    @property
    def buckets(self) -> Ints:
        """Bucket of each feature row except row 0; shape (rows - 1,)."""
        return self._buckets[1 : self._count]

    def rows_of(self, buckets: Ints | Places) -> Ints:
        """Feature row of each bucket, NO_ROW if it has none."""
        return self._rows[buckets].astype(np.int64)

    def allocate(self, buckets: Ints, *, limit: int) -> int:
        """Add a feature row for each bucket without one, up to `limit` rows; returns the number added."""
        missing = self._rows[buckets] == NO_ROW
        if not missing.any():  # the usual case
            return 0
        wanted = np.unique(buckets[missing])[: max(0, limit - self._count)]
        end = self._count + len(wanted)
        if end > len(self._buckets):
            self._buckets = np.resize(self._buckets, max(end, 2 * len(self._buckets)))
        self._buckets[self._count : end] = wanted
        self._rows[wanted] = np.arange(self._count, end)
        self._count = end
        return len(wanted)


class AdaGradTable:
    """Float32 weights of shape (rows, columns), each with its sum of squared gradients.

    The arrays have spare rows and columns, so that growth by one is cheap. `initial_square` is the start of
    each sum of squares. A larger value makes the first steps smaller.
    """

    def __init__(self, weights: Floats, squares: Floats | None = None, *, initial_square: float) -> None:
        """A copy of these weights and sums of squares. Raises ValueError if their shapes differ."""
        shapes = [array.shape for array in (weights, squares) if array is not None]
        if weights.ndim != 2 or len(set(shapes)) > 1:
            raise ValueError(f"weights of shape {shapes[0]} with squares of shape {shapes[-1]}")
        self._initial_square = np.float32(initial_square)
        self.shape = (0, 0)
        self._weights = self._squares = np.zeros((0, 0), dtype=np.float32)
        self.grow(*weights.shape)
        self.weights[:] = weights
        if squares is not None:  # zeros would write every page
            self.squares[:] = squares

    @property
    def weights(self) -> Floats:
        """The weights; a view."""
        return self._weights[: self.shape[0], : self.shape[1]]

    @property
    def squares(self) -> Floats:
        """The sums of squared gradients without `initial_square`; a view."""
        return self._squares[: self.shape[0], : self.shape[1]]

    def grow(self, rows: int, columns: int) -> None:
        """Grow to at least this shape. New weights are zero."""
        used, capacity = self.shape, self._weights.shape
        self.shape = rows, columns = max(rows, used[0]), max(columns, used[1])
        if rows > capacity[0] or columns > capacity[1]:
            padded = -(-(columns + columns // 8) // COLUMN_STEP) * COLUMN_STEP
            size = (
                2 * rows if rows > capacity[0] else capacity[0],
                padded if columns > capacity[1] else capacity[1],
            )
            self._weights = _enlarged(self._weights, size, used)
            self._squares = _enlarged(self._squares, size, used)

    def take(self, rows: Ints) -> Floats:
        """The weights of these rows; a copy of shape (rows, columns)."""
        return self._weights.take(rows, axis=0)[:, : self.shape[1]]

    def retain(self, rows: Ints) -> None:
        """Remove all rows except these, which are numbered in this order."""
        self._weights, self._squares = self._weights[rows], self._squares[rows]
        self.shape = (len(rows), self.shape[1])

    def step(self, rows: Ints, columns: Ints, gradient: Floats, *, learn_rate: float) -> None:
        """One AdaGrad step on the weights of these rows and columns, each at most once.

        Cells with a zero gradient are neither read nor written, because most cells have one. Raises
        ValueError if the gradient does not have the shape (rows, columns).
        """
        if gradient.shape != (len(rows), len(columns)):
            raise ValueError(f"a gradient of shape {gradient.shape} for {len(rows)} x {len(columns)} weights")
        places, slopes = self._nonzero(rows, columns, gradient)
        weights, squares = self._weights.reshape(-1), self._squares.reshape(-1)
        sums = squares.take(places) + slopes * slopes
        squares[places] = sums
        moves = np.float32(learn_rate) * slopes / np.sqrt(sums + self._initial_square)
        weights[places] = weights.take(places) - moves

    def _nonzero(self, rows: Ints, columns: Ints, gradient: Floats) -> tuple[Ints, Floats]:
        """Positions in the flat table with a non-zero gradient, and the gradient there."""
        cells = np.flatnonzero(gradient != 0.0)
        lines = cells // max(1, len(columns))
        starts = rows * self._weights.shape[1]
        places = starts.take(lines) + columns.take(cells - lines * len(columns))
        return places, gradient.reshape(-1).take(cells)


@dataclass(frozen=True)
class ServedRows:
    """Feature rows in eight bits a weight: `quantized` (rows, columns), and `scales` (rows,)."""

    table: BucketRows
    quantized: Bytes8
    scales: Floats

    def digest_with(self, *others: AnyArray) -> str:
        """Digest of these weights and of the other arrays."""
        total = hashlib.blake2b(digest_size=16)
        for array in (self.table.buckets, self.quantized, self.scales, *others):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    def arrays(self) -> Arrays:
        buckets = self.table.buckets.astype(np.uint32)
        return {"buckets": buckets, "quantized": self.quantized, "scales": self.scales}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays, *, columns: int) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        require_names(arrays, "buckets", "quantized", "scales")
        rows = len(arrays["buckets"]) + 1
        require_shape(arrays["quantized"], (rows, columns), "weights")
        require_shape(arrays["scales"], (rows,), "scales")
        table = BucketRows(bits, arrays["buckets"].astype(np.int64))
        return cls(table, arrays["quantized"], arrays["scales"])


class FeatureRows(AdaGradTable):
    """Feature rows in training: a table whose rows belong to the buckets of `table`.

    A feature gets its row with its first gradient. At `max_rows` the rows with the smallest weights are
    evicted.
    """

    def __init__(
        self, options: RowOptions, buckets: Ints, weights: Floats, squares: Floats | None = None
    ) -> None:
        super().__init__(weights, squares, initial_square=options.initial_square)
        self.options = options
        self.table = BucketRows(options.bits, buckets)

    @classmethod
    def new(cls, options: RowOptions, columns: int) -> Self:
        """No feature rows yet."""
        return cls(options, _NO_BUCKETS, np.zeros((1, columns), dtype=np.float32))

    def step_buckets(self, step: Step, *, learn_rate: float) -> None:
        """One AdaGrad step on the buckets and columns of `step`. Adds missing feature rows."""
        buckets, gradient = step.buckets, step.gradient
        if len(self.table) + int((self.table.rows_of(buckets) == NO_ROW).sum()) > self.options.max_rows:
            self._evict()
        self.table.allocate(buckets, limit=self.options.max_rows)
        self.grow(len(self.table), 0)
        rows = self.table.rows_of(buckets)
        found = rows != NO_ROW
        if not found.all():
            rows, gradient = rows[found], gradient[found]
        self.step(rows, step.columns, gradient, learn_rate=learn_rate)

    def _evict(self) -> None:
        """Remove the rows with the smallest weights, unless enough rows are free."""
        used = len(self.table) - 1
        if used <= (1.0 - EVICTED_SHARE) * self.options.max_rows:
            return
        sizes = np.abs(self.weights[1 : len(self.table)]).max(axis=1, initial=0.0)
        retained = np.sort(np.argsort(sizes, kind="stable")[int(EVICTED_SHARE * used) :]) + 1
        self.table = BucketRows(self.table.bits, self.table.buckets[retained - 1])
        self.retain(np.append(_ROW_0, retained))

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return bool(np.isfinite(self.weights.sum(dtype=np.float64)))

    def served(self) -> ServedRows:
        """The serving form, without rows that are zero."""
        quantized, scales = quantize(self.weights[: len(self.table)])
        nonzero = np.flatnonzero(scales)
        table = BucketRows(self.table.bits, self.table.buckets[nonzero - 1])
        retained = np.concatenate([_ROW_0, nonzero])
        return ServedRows(table, quantized[retained], scales[retained])

    def arrays(self) -> Arrays:
        used = len(self.table)
        return {
            "buckets": self.table.buckets.astype(np.uint32),
            "weights": self.weights[:used],
            "squares": self.squares[:used],
        }

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays, *, columns: int) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        require_names(arrays, "buckets", "weights", "squares")
        weights, squares = arrays["weights"], arrays["squares"]
        require_shape(weights, (len(arrays["buckets"]) + 1, columns), "weights")
        return cls(options, arrays["buckets"].astype(np.int64), weights, squares)

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedRows) -> Self:
        """The training form of served weights, with new sums of squares."""
        weights = served.quantized.astype(np.float32) * served.scales[:, None]
        return cls(options, served.table.buckets, weights)


def unique_below(bound: int, numbers: Ints | Places) -> tuple[Ints, Places]:
    """Ascending distinct numbers, all below `bound`, and the position of each number among them.

    Unlike `np.unique`, it does not sort.
    """
    present = np.zeros(bound, dtype=bool)
    present[numbers] = True
    distinct = np.flatnonzero(present)
    places = np.empty(bound, dtype=np.int32)
    places[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, places[numbers]


def _enlarged(array: Floats, size: tuple[int, int], used: tuple[int, int]) -> Floats:
    larger = np.zeros(size, dtype=np.float32)
    larger[: used[0], : used[1]] = array[: used[0], : used[1]]
    return larger
