"""Which row of a weight table belongs to which feature: rows only for the features that were seen."""

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.lexical.hashing import Hashes

Ints = NDArray[np.int64]
NO_ROW = 0
"""The row of features that have none: its weights are zero for ever."""


class BucketRows:
    """Hashes fall into `2**bits` buckets, and a bucket gets a row when it is first needed.

    Row 0 is nobody's. In memory this costs 4 bytes a bucket; two features share a row only if they share
    a bucket.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._shift = np.uint64(64 - bits)
        self._rows = np.zeros(1 << bits, dtype=np.int32)
        self._buckets = np.zeros(1, dtype=np.int64)
        self._count = 1

    def __len__(self) -> int:
        """Rows there are, row 0 included."""
        return self._count

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._buckets.nbytes

    @property
    def buckets(self) -> Ints:
        """The bucket of each row but row 0; shape (rows - 1,)."""
        return self._buckets[1 : self._count]

    def buckets_of(self, hashes: Hashes) -> Ints:
        """The bucket that each hash falls into."""
        return (hashes >> self._shift).astype(np.int64)

    def look_up(self, buckets: Ints) -> Ints:
        """The row of each bucket, NO_ROW where it has none."""
        return self._rows[buckets].astype(np.int64)

    def allot(self, buckets: Ints, *, limit: int) -> int:
        """Give each of these buckets that has none a row, up to `limit` rows; returns how many are new."""
        wanted = np.unique(buckets[self._rows[buckets] == NO_ROW])[: max(0, limit - self._count)]
        end = self._count + len(wanted)
        if end > len(self._buckets):
            self._buckets = np.resize(self._buckets, max(end, 2 * len(self._buckets)))
        self._buckets[self._count : end] = wanted
        self._rows[wanted] = np.arange(self._count, end)
        self._count = end
        return len(wanted)

    def keep(self, rows: Ints) -> None:
        """Forget all rows but these (and row 0), which are renumbered from 1 in the order given."""
        kept = self._buckets[rows]
        self._rows[:] = NO_ROW
        self._buckets = np.concatenate([np.zeros(1, dtype=np.int64), kept])
        self._rows[kept] = np.arange(1, len(kept) + 1)
        self._count = len(kept) + 1

    @classmethod
    def from_buckets(cls, bits: int, buckets: Ints) -> "BucketRows":
        """The table whose row i + 1 belongs to `buckets[i]`. Raises ValueError for impossible buckets."""
        if len(buckets) and (buckets.min() < 0 or buckets.max() >= 1 << bits):
            raise ValueError(f"a bucket is outside the table of 2**{bits}: the weights are of another model")
        table = cls(bits)
        table._buckets = np.concatenate([np.zeros(1, dtype=np.int64), buckets])
        table._rows[buckets] = np.arange(1, len(buckets) + 1)
        table._count = len(buckets) + 1
        return table


def each_once(numbers: Ints, count: int) -> tuple[Ints, NDArray[np.int32]]:
    """The different ones of numbers below `count`, ascending, and where each is among them; unlike
    `np.unique`, nothing is sorted."""
    there = np.zeros(count, dtype=bool)
    there[numbers] = True
    different = np.flatnonzero(there)
    places = np.empty(count, dtype=np.int32)
    places[different] = np.arange(len(different), dtype=np.int32)
    return different, places[numbers]
