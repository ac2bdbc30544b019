"""From the features of a batch to the numbers that weights are multiplied with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.bucket_rows import NO_ROW, BucketRows
from karen_learner.components.text_ngrams import VIEWS, TextFeatures

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_BUCKET_BITS = 32


@dataclass(frozen=True)
class DesignMatrix:
    """The batch as a matrix whose columns are the rows of a weight table that it needs.

    `rows` (shape (rows,)) ascend, each once; `values` has shape (texts, rows). `coverage` (shape (texts,
    views)) is the share of each view's squared length that lies in features that have a row.
    """

    rows: Ints
    values: Floats
    coverage: Floats


def design_matrix(
    features: TextFeatures, table: BucketRows, *, view_weights: Sequence[float]
) -> DesignMatrix:
    """Sub-linear term frequencies, `1 + log(count)`, scaled to length `view_weights[view]` in each view.

    A feature without a row counts for the length, and for nothing else: the more of a text is unknown,
    the less is said about it.
    """
    count = len(features.fingerprints)
    groups, buckets, counts = _counted(features, table)
    values = 1.0 + np.log(counts)
    lengths = _squared_lengths(groups, values, count)
    rows = table.look_up(buckets)
    known = rows != NO_ROW
    groups, rows, values = groups[known], rows[known], values[known]
    coverage = _squared_lengths(groups, values, count) / np.maximum(lengths, 1e-9)
    values *= np.asarray(view_weights)[groups // count] / np.sqrt(lengths[groups])
    return DesignMatrix(
        *_dense(rows, groups % count, values, count),
        coverage=coverage.reshape(VIEWS, count).T.astype(np.float32),
    )


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


def _dense(rows: Ints, texts: Ints, values: NDArray[np.float64], count: int) -> tuple[Ints, Floats]:
    """The different rows, ascending, and the matrix of shape (texts, rows) that has `values` in it."""
    marks = np.zeros(int(rows.max(initial=0)) + 1, dtype=np.int32)
    marks[rows] = 1
    distinct = np.flatnonzero(marks)
    marks[distinct] = np.arange(len(distinct), dtype=np.int32)
    cells = texts * len(distinct) + marks[rows]
    dense = np.bincount(cells, values, minlength=count * len(distinct))
    return distinct, dense.reshape(count, len(distinct)).astype(np.float32)
