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
    Hashes,
    Ints,
    Places,
    quantize,
    require_shape,
)

NO_ROW = 0
"""The row of features without weights. Its weights are always zero."""
EVICTED_SHARE = 0.25
"""Share of feature rows that a full table evicts, smallest weights first."""
COLUMN_STEP = 8
_ROW_0 = np.zeros(1, dtype=np.int64)


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

    Row 0 belongs to no bucket. The map takes 4 bytes a bucket.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._shift = np.uint64(64 - bits)
        self._rows = np.zeros(1 << bits, dtype=np.int32)
        self._buckets = np.zeros(1, dtype=np.int64)
        self._count = 1

    def __len__(self) -> int:
        """Number of feature rows, with row 0."""
        return self._count

    @property
    def buckets(self) -> Ints:
        """Bucket of each feature row except row 0; shape (rows - 1,)."""
        return self._buckets[1 : self._count]

    def buckets_of(self, hashes: Hashes) -> Ints:
        """Bucket of each hash."""
        return (hashes >> self._shift).astype(np.int64)

    def rows_of(self, buckets: Ints) -> Ints:
        """Feature row of each bucket, NO_ROW if it has none."""
        return self._rows[buckets].astype(np.int64)

    def allocate(self, buckets: Ints, *, limit: int) -> int:
        """Add a feature row for each bucket without one, up to `limit` rows; returns the number added."""
        wanted = np.unique(buckets[self._rows[buckets] == NO_ROW])[: max(0, limit - self._count)]
        end = self._count + len(wanted)
        if end > len(self._buckets):
            self._buckets = np.resize(self._buckets, max(end, 2 * len(self._buckets)))
        self._buckets[self._count : end] = wanted
        self._rows[wanted] = np.arange(self._count, end)
        self._count = end
        return len(wanted)

    def retain(self, rows: Ints) -> None:
        """Remove all feature rows except these and row 0. They are numbered from 1 in the given order."""
        retained = self._buckets[rows]
        self._rows[:] = NO_ROW
        self._assign(retained)

    def _assign(self, buckets: Ints) -> None:
        self._buckets = np.concatenate([_ROW_0, buckets])
        self._count = len(self._buckets)
        self._rows[buckets] = np.arange(1, self._count)

    @classmethod
    def from_buckets(cls, bits: int, buckets: Ints) -> Self:
        """The map in which row i + 1 belongs to `buckets[i]`. Raises ValueError for buckets out of range."""
        if len(buckets) and (buckets.min() < 0 or buckets.max() >= 1 << bits):
            raise ValueError(f"a bucket is outside the table of 2**{bits}: the weights are of another model")
        table = cls(bits)
        table._assign(buckets)
        return table


class AdaGradTable:
    """Float32 weights of shape (rows, columns), each with its sum of squared gradients.

    The arrays have spare rows and columns, so that growth by one is cheap. `initial_square` is the start of
    each sum of squares. A larger value makes the first steps smaller.
    """

    def __init__(self, rows: int, columns: int, *, initial_square: float) -> None:
        self._initial_square = np.float32(initial_square)
        self._shape = (rows, columns)
        self._weights = np.zeros((_padded_rows(rows), _padded_columns(columns)), dtype=np.float32)
        self._squares = np.zeros(self._weights.shape, dtype=np.float32)  # zeros_like would write every page

    @property
    def shape(self) -> tuple[int, int]:
        return self._shape

    @property
    def weights(self) -> Floats:
        """The weights; a view."""
        return self._weights[: self._shape[0], : self._shape[1]]

    @property
    def squares(self) -> Floats:
        """The sums of squared gradients without `initial_square`; a view."""
        return self._squares[: self._shape[0], : self._shape[1]]

    def grow(self, rows: int, columns: int) -> None:
        """Grow to at least this shape. New weights are zero."""
        rows, columns = max(rows, self._shape[0]), max(columns, self._shape[1])
        capacity = self._weights.shape
        if rows > capacity[0] or columns > capacity[1]:
            size = (
                _padded_rows(rows) if rows > capacity[0] else capacity[0],
                _padded_columns(columns) if columns > capacity[1] else capacity[1],
            )
            self._weights = _enlarged(self._weights, size, self._shape)
            self._squares = _enlarged(self._squares, size, self._shape)
        self._shape = (rows, columns)

    def take(self, rows: Ints) -> Floats:
        """The weights of these rows; a copy of shape (rows, columns)."""
        return self._weights.take(rows, axis=0)[:, : self._shape[1]]

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

    def retain(self, rows: Ints) -> None:
        """Remove all rows except row 0 and these, in this order."""
        retained = np.concatenate([_ROW_0, rows])
        self._weights, self._squares = self._weights[retained], self._squares[retained]
        self._shape = (len(retained), self._shape[1])

    @classmethod
    def from_arrays(cls, weights: Floats, squares: Floats, *, initial_square: float) -> Self:
        """The table with these weights and sums of squares. Raises ValueError if their shapes differ."""
        if weights.ndim != 2 or weights.shape != squares.shape:
            raise ValueError(f"weights of shape {weights.shape} with squares of shape {squares.shape}")
        table = cls(weights.shape[0], weights.shape[1], initial_square=initial_square)
        table.weights[:] = weights
        table.squares[:] = squares
        return table

    @classmethod
    def from_weights(cls, weights: Floats, *, initial_square: float) -> Self:
        """The table with these weights and no gradients yet."""
        return cls.from_arrays(weights, np.zeros_like(weights), initial_square=initial_square)


@dataclass(frozen=True)
class ServedRows:
    """Feature rows in eight bits a weight: `quantized` (rows, columns), and `scales` (rows,)."""

    NAMES = ("buckets", "quantized", "scales")

    table: BucketRows
    quantized: Bytes8
    scales: Floats

    @property
    def weights(self) -> Floats:
        """The weights in float32, shape (rows, columns); a copy."""
        return self.quantized.astype(np.float32) * self.scales[:, None]

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
        rows = len(arrays["buckets"]) + 1
        require_shape(arrays["quantized"], (rows, columns), "weights")
        require_shape(arrays["scales"], (rows,), "scales")
        table = BucketRows.from_buckets(bits, arrays["buckets"].astype(np.int64))
        return cls(table, arrays["quantized"], arrays["scales"])


class FeatureRows:
    """Feature rows in training: float32 weights with sums of squares.

    A feature gets its row with its first gradient. At `max_rows` the rows with the smallest weights are
    evicted.
    """

    NAMES = ("buckets", "weights", "squares")

    def __init__(self, table: BucketRows, rows: AdaGradTable, *, max_rows: int) -> None:
        self.table, self._rows, self._max_rows = table, rows, max_rows

    @classmethod
    def new(cls, options: RowOptions, columns: int) -> Self:
        """No feature rows yet."""
        rows = AdaGradTable(1, columns, initial_square=options.initial_square)
        return cls(BucketRows(options.bits), rows, max_rows=options.max_rows)

    @property
    def columns(self) -> int:
        return self._rows.shape[1]

    @property
    def weights(self) -> Floats:
        """The weights, shape (rows, columns); a view."""
        return self._rows.weights

    def widen(self, columns: int) -> None:
        """Grow to at least this number of columns. New weights are zero."""
        self._rows.grow(len(self.table), columns)

    def take(self, rows: Ints) -> Floats:
        """The weights of these feature rows; a copy of shape (rows, columns)."""
        return self._rows.take(rows)

    def step(self, buckets: Ints, columns: Ints, gradient: Floats, *, learn_rate: float) -> None:
        """One AdaGrad step on these buckets and columns, each once. Adds missing feature rows."""
        if len(self.table) + int((self.table.rows_of(buckets) == NO_ROW).sum()) > self._max_rows:
            self._evict()
        self.table.allocate(buckets, limit=self._max_rows)
        self._rows.grow(len(self.table), self.columns)
        rows = self.table.rows_of(buckets)
        found = rows != NO_ROW
        if not found.all():
            rows, gradient = rows[found], gradient[found]
        self._rows.step(rows, columns, gradient, learn_rate=learn_rate)

    def _evict(self) -> None:
        """Remove the rows with the smallest weights, unless enough rows are free."""
        used = len(self.table) - 1
        if used <= (1.0 - EVICTED_SHARE) * self._max_rows:
            return
        sizes = np.abs(self.weights[1 : len(self.table)]).max(axis=1, initial=0.0)
        retained = np.sort(np.argsort(sizes, kind="stable")[int(EVICTED_SHARE * used) :]) + 1
        self.table.retain(retained)
        self._rows.retain(retained)

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return bool(np.isfinite(self.weights.sum(dtype=np.float64)))

    def served(self) -> ServedRows:
        """The serving form, without rows that are zero."""
        quantized, scales = quantize(self.weights[: len(self.table)])
        nonzero = np.flatnonzero(scales)
        table = BucketRows.from_buckets(self.table.bits, self.table.buckets[nonzero - 1])
        retained = np.concatenate([_ROW_0, nonzero])
        return ServedRows(table, quantized[retained], scales[retained])

    def arrays(self) -> Arrays:
        used = len(self.table)
        return {
            "buckets": self.table.buckets.astype(np.uint32),
            "weights": self.weights[:used],
            "squares": self._rows.squares[:used],
        }

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays, *, columns: int) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        weights, squares = arrays["weights"], arrays["squares"]
        require_shape(weights, (len(arrays["buckets"]) + 1, columns), "weights")
        table = BucketRows.from_buckets(options.bits, arrays["buckets"].astype(np.int64))
        rows = AdaGradTable.from_arrays(weights, squares, initial_square=options.initial_square)
        return cls(table, rows, max_rows=options.max_rows)

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedRows) -> Self:
        """The training form of served weights, with new sums of squares."""
        table = BucketRows.from_buckets(options.bits, served.table.buckets)
        rows = AdaGradTable.from_weights(served.weights, initial_square=options.initial_square)
        return cls(table, rows, max_rows=options.max_rows)


def unique_below(bound: int, numbers: Ints) -> tuple[Ints, Places]:
    """Ascending distinct numbers, all below `bound`, and the position of each number among them.

    Unlike `np.unique`, it does not sort.
    """
    present = np.zeros(bound, dtype=bool)
    present[numbers] = True
    distinct = np.flatnonzero(present)
    places = np.empty(bound, dtype=np.int32)
    places[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, places[numbers]


def _padded_rows(rows: int) -> int:
    """Twice the rows. Spare rows cost no memory until they are written."""
    return 2 * rows


def _padded_columns(columns: int) -> int:
    """Columns and an eighth, as a multiple of COLUMN_STEP."""
    return -(-(columns + columns // 8) // COLUMN_STEP) * COLUMN_STEP


def _enlarged(array: Floats, size: tuple[int, int], used: tuple[int, int]) -> Floats:
    larger = np.zeros(size, dtype=np.float32)
    larger[: used[0], : used[1]] = array[: used[0], : used[1]]
    return larger
