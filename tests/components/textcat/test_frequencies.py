"""Document frequencies: rarity, and the agreement of both forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.components.arrays import pack, unpack
from karen_learner.components.textcat.weights import COUNTS, MAX_TEXTS, SERVED_COUNTS, DocumentFrequencies

BITS = 8
ALL = np.arange(1 << BITS)


def counted(texts: int, *, bucket_3: int = 0, bucket_5: int = 0) -> DocumentFrequencies:
    """Counts of texts; the first ones have these features."""
    counts = DocumentFrequencies.new(BITS)
    for number in range(texts):
        there = [bucket for bucket, last in ((3, bucket_3), (5, bucket_5)) if number < last]
        counts.add(np.array(there, dtype=np.int64), np.zeros(len(there), dtype=np.int64), np.ones(1, "f4"))
    return counts


def test_without_texts_all_features_are_equally_rare() -> None:
    np.testing.assert_array_equal(DocumentFrequencies.new(BITS).rarity(ALL), 1.0)


def test_rare_features_have_larger_values() -> None:
    found = counted(100, bucket_3=100, bucket_5=10).rarity(np.array([3, 5, 7]))
    expected = np.sqrt(1 + np.log(101 / np.array([101, 11, 1])))
    np.testing.assert_allclose(found, expected, rtol=0.03)


def test_texts_are_counted_by_sample_weight() -> None:
    counts = DocumentFrequencies.new(BITS)
    counts.add(np.array([3, 5, 3]), np.array([0, 0, 1]), np.array([10.0, 0.0], dtype="f4"))
    np.testing.assert_array_equal(counts.rarity(ALL), counted(10, bucket_3=10, bucket_5=10).rarity(ALL))


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60))
def test_served_counts_have_the_same_rarity(texts: int, some: int, others: int) -> None:
    counts = counted(texts, bucket_3=min(texts, some), bucket_5=min(texts, others))
    served = DocumentFrequencies.from_arrays(BITS, unpack(pack(counts.served().arrays())), SERVED_COUNTS)
    again = DocumentFrequencies.from_arrays(BITS, unpack(pack(counts.arrays())), COUNTS)
    for other in (served, again, served.counted()):
        np.testing.assert_allclose(other.rarity(ALL), counts.rarity(ALL), rtol=0.05)
    np.testing.assert_array_equal(served.rarity(ALL), counts.rarity(ALL))
    np.testing.assert_array_equal(again.rarity(ALL), counts.rarity(ALL))


def test_counts_are_halved_above_the_maximum() -> None:
    counts, bucket = DocumentFrequencies.new(BITS), np.array([3])
    for _ in range(40):
        counts.add(bucket, np.zeros(1, dtype=np.int64), np.array([MAX_TEXTS / 8, MAX_TEXTS / 8], dtype="f4"))
        assert counts.arrays()["texts"][0] <= MAX_TEXTS
    np.testing.assert_allclose(
        counts.rarity(bucket), np.sqrt(1 + np.log(2)), rtol=0.03
    )  # in half of the texts


def test_counts_of_another_table_are_refused() -> None:
    counts = counted(3, bucket_3=1)
    with pytest.raises(ValueError, match="damaged"):
        DocumentFrequencies.from_arrays(BITS + 1, counts.served().arrays(), SERVED_COUNTS)
    with pytest.raises(ValueError, match="damaged"):
        DocumentFrequencies.from_arrays(BITS + 1, counts.arrays(), COUNTS)
