"""From the features of a batch to the numbers that weights are multiplied with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.online.feature_index import NO_ROW, BucketRows, each_once
from karen_learner.components.textcat.features import VIEW_LENGTHS, VIEWS, TextFeatures
from karen_learner.components.textcat.idf import ServedCounts, TextCounts

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_BUCKET_BITS = 32
_SMALLEST = 1e-9

NO_BUCKETS: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class DesignMatrix:
    """The batch as a matrix whose columns are the features that have weights, or are about to get them.

    Text `present_texts[i]` has a feature in the bucket `present[i]`, whether that has weights or not.
    `buckets` and `rows` (shape (features,)) say whose column it is, each once; a feature that is about to
    get a row has NO_ROW. `values` has shape (texts, features). `coverage` (shape (texts, views)) is the
    share of each view's squared length that lies in these features.
    """

    present: Ints
    present_texts: Ints
    buckets: Ints
    rows: Ints
    values: Floats
    coverage: Floats


def design_matrix(
    features: TextFeatures, table: BucketRows, counts: ServedCounts | TextCounts, *, new: Ints = NO_BUCKETS
) -> DesignMatrix:
    """Sub-linear term frequencies, `1 + log(count)`, times rarity, scaled to the length of their view.

    `new` are buckets without a row that get columns too; ascending, each once. Any other feature without
    a row counts for the length, and for nothing else: the more of a text is unknown, the less is said
    about it.
    """
    count = len(features.fingerprints)
    groups, buckets, occurrences = _counted(features, table)
    values = (1.0 + np.log(occurrences)) * counts.rarity(buckets)
    texts, lengths = groups % count, _squared_lengths(groups, values, count)
    columns = _columns(buckets, table, new)
    known = columns != NO_ROW
    groups, columns, values = groups[known], columns[known], values[known]
    coverage = _squared_lengths(groups, values, count) / np.maximum(lengths, _SMALLEST)
    values *= (np.repeat(VIEW_LENGTHS, count) / np.sqrt(np.maximum(lengths, _SMALLEST)))[groups]
    distinct, dense = _dense(columns, groups % count, values, count)
    old = distinct < len(table)
    return DesignMatrix(
        present=buckets,
        present_texts=texts,
        buckets=np.concatenate([table.buckets[distinct[old] - 1], new[distinct[~old] - len(table)]]),
        rows=np.where(old, distinct, NO_ROW),
        values=dense,
        coverage=coverage.reshape(VIEWS, count).T.astype(np.float32),
    )


def _columns(buckets: Ints, table: BucketRows, new: Ints) -> Ints:
    """The row of each bucket; for the new ones numbers that follow those of the rows."""
    rows = table.look_up(buckets)
    if len(new):
        places = np.minimum(np.searchsorted(new, buckets), len(new) - 1)
        rows = np.where(new[places] == buckets, places + len(table), rows)
    return rows


def _counted(features: TextFeatures, table: BucketRows) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """How often each bucket occurs in each view of each text: (view * count + text, bucket, occurrences)."""
    groups = features.views * len(features.fingerprints) + features.texts
    keys = (groups << _BUCKET_BITS) | table.buckets_of(features.hashes)
    keys.sort()
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(first, append=len(keys)).astype(np.float64)
    keys = keys[first]
    return keys >> _BUCKET_BITS, keys & ((1 << _BUCKET_BITS) - 1), counts


def _squared_lengths(groups: Ints, values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(groups, values * values, minlength=VIEWS * count), dtype=np.float64)


def _dense(columns: Ints, texts: Ints, values: NDArray[np.float64], count: int) -> tuple[Ints, Floats]:
    """The different columns, ascending, and the matrix of shape (texts, columns) with `values` in it."""
    distinct, places = each_once(columns, int(columns.max(initial=0)) + 1)
    dense = np.zeros(count * len(distinct), dtype=np.float32)
    np.add.at(dense, texts * len(distinct) + places, values.astype(np.float32))
    return distinct, dense.reshape(count, len(distinct))
