"""Hashed features of texts, and their TF-IDF design matrix; computed for a whole batch.

A feature belongs to a *view*: words with pairs of neighbours, character n-grams, unordered pairs of words,
word clusters, polarity. Each view of a text is normalized separately, so that no view dominates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from spacy.attrs import LOWER
from spacy.tokens import Doc

from karen_learner.components.arrays import Doubles, Floats, Hashes, Ints, Mask
from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.lexical.polarities import WordPolarities
from karen_learner.components.lexical.words import (
    CACHED_WORDS,
    LexemeCache,
    character_ngrams,
    combine,
    combine_unordered,
    salted,
)
from karen_learner.components.online.feature_rows import NO_ROW, BucketRows, unique_below

WORDS, CHARACTERS, PAIRS, CLUSTERS, POLARITY = range(5)
VIEW_NORMS = (1.0, 1.0, 1.0, 0.7, 0.4)
"""Norm of each view of a text. Clusters and polarities are weaker evidence of most labels than words."""
VIEWS = len(VIEW_NORMS)
DEFERRED_VIEWS = (PAIRS, CLUSTERS)
"""Views whose features get weights with their second text. That saves memory: the first text also has its
words."""
CLUSTER_BITS = np.array([[4], [6], [8], [12], [16]], dtype=np.uint64)
CLUSTER_BIGRAM_BITS = np.array([[6], [12]], dtype=np.uint64)
"""Lengths of cluster path prefixes, of words and of pairs of neighbours. Short prefixes are wide clusters."""
MAX_DEGREES = 12
"""Largest polarity of a text: that of three or four of the strongest words."""
MAX_WORD_CHARS = 40
_WORD_SALT, _BIGRAM_SALT, _CHARACTER_SALT, _PAIR_SALT, _TEXT_SALT = range(1, 6)
_CLUSTER_SALT, _CLUSTER_BIGRAM_SALT = np.uint64(64), np.uint64(128)
_GOOD_SALT, _BAD_SALT, _NEUTRAL_SALT = 200, 201, 202
_CLUSTER_MARK = np.uint64(1 << 32)
"""Separates cluster paths from the marks of the text borders."""
_TEXT_START, _TEXT_END = np.uint64(1), np.uint64(2)
_BUCKET_BITS = 32
_SMALLEST = 1e-9
NO_BUCKETS: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class TextFeatures:
    """Feature hashes of a batch, with repetitions; all arrays have shape (features,).

    `texts` and `views` are the text and the view of each feature. `fingerprints` (texts,) identify texts.
    """

    hashes: Hashes
    texts: Ints
    views: Ints
    fingerprints: Hashes


@dataclass(frozen=True)
class TextNgrams:
    """Features of texts.

    Only the first `max_words` words are used, and the distinct ones of the first `pair_words` make pairs.
    So the number of features is bounded. The views of `clusters` and `polarities` are empty without them.
    """

    char_sizes: tuple[int, ...]
    max_words: int
    pair_words: int
    clusters: WordClusters = field(default_factory=WordClusters)
    polarities: WordPolarities = field(default_factory=WordPolarities)

    def __call__(self, docs: Sequence[Doc]) -> TextFeatures:
        """Features of a batch. An empty document has none."""
        words = [doc.to_array(LOWER)[: self.max_words] for doc in docs]
        lengths = np.array([len(array) for array in words], dtype=np.int64)
        flat = np.concatenate([*words, np.zeros(0, dtype=np.uint64)])
        texts, frame = np.repeat(np.arange(len(docs)), lengths), _Frame.from_lengths(lengths)
        word_of: Callable[[int], str] = docs[0].vocab.strings.__getitem__ if docs else str
        parts = [
            (WORDS, salted(flat, salt=_WORD_SALT), texts),
            (WORDS, frame.neighbours(flat, salt=_BIGRAM_SALT), frame.owners),
            (CHARACTERS, *self._characters(flat, texts, word_of)),
            (PAIRS, *self._pairs(flat, texts, lengths)),
            *((CLUSTERS, *clusters) for clusters in self._clusters(flat, texts, frame)),
            *((POLARITY, *degrees) for degrees in self._degrees(flat, texts, lengths)),
        ]
        return TextFeatures(
            hashes=np.concatenate([hashes for _, hashes, _ in parts]),
            texts=np.concatenate([owners for _, _, owners in parts]),
            views=np.repeat([view for view, _, _ in parts], [len(hashes) for _, hashes, _ in parts]),
            fingerprints=_fingerprints(flat, texts, lengths),
        )

    def _characters(self, flat: Hashes, texts: Ints, word_of: Callable[[int], str]) -> tuple[Hashes, Ints]:
        """Character n-grams of the words, and the text of each."""
        if not self.char_sizes or not len(flat):
            return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        ngrams = character_cache(self.char_sizes).get(flat.tolist(), word_of)
        return np.concatenate(ngrams), np.repeat(texts, [len(array) for array in ngrams])

    def _pairs(self, flat: Hashes, texts: Ints, lengths: Ints) -> tuple[Hashes, Ints]:
        """Unordered pairs of the distinct words of each text, and the text of each."""
        words, owners, counts = _distinct_words(flat, texts, lengths, limit=self.pair_words)
        pairs = [_pair_positions(count) for count in counts.tolist()]
        starts = np.cumsum(counts) - counts
        sizes = [len(first) for first, _ in pairs]
        offsets = np.repeat(starts, sizes)
        first = np.concatenate([np.zeros(0, dtype=np.int64), *(first for first, _ in pairs)]) + offsets
        second = np.concatenate([np.zeros(0, dtype=np.int64), *(second for _, second in pairs)]) + offsets
        return combine_unordered(words[first], words[second], salt=_PAIR_SALT), owners[first]

    def _clusters(self, flat: Hashes, texts: Ints, frame: "_Frame") -> Iterator[tuple[Hashes, Ints]]:
        """Clusters of words and of neighbours, and the text of each. An unknown word is its own cluster."""
        if not len(self.clusters):
            return
        paths = self.clusters.values_of(flat).astype(np.uint64)

        def prefixes(bits: Hashes) -> Hashes:
            marked = _CLUSTER_MARK | (paths & ((np.uint64(1) << bits) - np.uint64(1)))
            return np.where(paths == 0, flat, marked)

        words = salted(prefixes(CLUSTER_BITS), salt=CLUSTER_BITS + _CLUSTER_SALT)
        yield words.ravel(), np.tile(texts, len(words))
        salt = CLUSTER_BIGRAM_BITS + _CLUSTER_BIGRAM_SALT
        pairs = frame.neighbours(prefixes(CLUSTER_BIGRAM_BITS), salt=salt)
        yield pairs.ravel(), np.tile(frame.owners, len(pairs))

    def _degrees(self, flat: Hashes, texts: Ints, lengths: Ints) -> Iterator[tuple[Hashes, Ints]]:
        """Positive and negative polarity of each text in degrees, and the text of each.

        A text of three degrees has the features of one, two and three. A text without polar words is neutral.
        """
        if not len(self.polarities):
            return
        tenths, count = self.polarities.values_of(flat).astype(np.int64), len(lengths)
        good, bad = (np.bincount(texts, np.maximum(side, 0), minlength=count) for side in (tenths, -tenths))
        for total, salt in ((good, _GOOD_SALT), (bad, _BAD_SALT)):
            degrees = np.minimum(np.rint(total / 10.0), MAX_DEGREES).astype(np.int64)
            owners = np.repeat(np.arange(count), degrees)
            nth = np.arange(len(owners)) - np.repeat(np.cumsum(degrees) - degrees, degrees)
            yield salted(nth.astype(np.uint64), salt=salt), owners
        neutral = np.flatnonzero((good == 0) & (bad == 0) & (lengths > 0))
        yield salted(np.zeros(len(neutral), dtype=np.uint64), salt=_NEUTRAL_SALT), neutral


@lru_cache(maxsize=8)
def character_cache(sizes: tuple[int, ...]) -> LexemeCache:
    """One cache for all models of a process: n-grams of a word depend only on the sizes."""

    def compute(words: Sequence[str]) -> list[Hashes]:
        return character_ngrams(words, sizes=sizes, max_chars=MAX_WORD_CHARS, salt=_CHARACTER_SALT)

    return LexemeCache(compute, capacity=CACHED_WORDS)


@dataclass(frozen=True)
class _Frame:
    """Places for the words of a batch, with a border place at either end of each text with words.

    `words` is the mask of words, `ends` are the last places of the texts. `left` are the places with a right
    neighbour in the text `owners`.
    """

    words: Mask
    ends: Ints
    left: Ints
    owners: Ints

    @classmethod
    def from_lengths(cls, lengths: Ints) -> "_Frame":
        """The frame of texts with these numbers of words."""
        filled = np.flatnonzero(lengths)
        ends = np.cumsum(lengths[filled] + 2) - 1
        words = np.ones(len(filled) * 2 + int(lengths.sum()), dtype=bool)
        words[ends] = False
        left = np.flatnonzero(words)
        words[ends - lengths[filled] - 1] = False
        return cls(words, ends, left, owners=np.repeat(filled, lengths[filled] + 1))

    def neighbours(self, words: Hashes, *, salt: int | Hashes) -> Hashes:
        """Pairs of neighbouring words. The borders of a text count as words.

        `words` may have the shape (families, words), with a salt for each family.
        """
        framed = np.full((*words.shape[:-1], len(self.words)), _TEXT_START)
        framed[..., self.words] = words
        framed[..., self.ends] = _TEXT_END
        return combine(framed[..., self.left], framed[..., self.left + 1], salt=salt)


def _distinct_words(flat: Hashes, texts: Ints, lengths: Ints, *, limit: int) -> tuple[Hashes, Ints, Ints]:
    """Distinct words among the first `limit` words of each text; their texts; and their number by text."""
    positions = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    near = positions < limit
    flat, texts = flat[near], texts[near]
    order = np.lexsort((flat, texts))
    flat, texts = flat[order], texts[order]
    new = np.ones(len(flat), dtype=bool)
    new[1:] = (flat[1:] != flat[:-1]) | (texts[1:] != texts[:-1])
    flat, texts = flat[new], texts[new]
    return flat, texts, np.bincount(texts, minlength=len(lengths))


@lru_cache(maxsize=256)
def _pair_positions(count: int) -> tuple[Ints, Ints]:
    first, second = np.triu_indices(count, 1)
    return first, second


def _fingerprints(flat: Hashes, texts: Ints, lengths: Ints) -> Hashes:
    """Hash of the bag of words of each text; never 0."""
    sums = np.zeros(len(lengths), dtype=np.uint64)
    np.add.at(sums, texts, salted(flat, salt=_TEXT_SALT))
    return sums | np.uint64(1)


@dataclass(frozen=True)
class DesignMatrix:
    """A batch as a matrix. Its columns are the features with weights, and those that are about to get some.

    Text `present_texts[i]` has a feature in the bucket `present[i]`, with or without weights. `buckets` and
    `rows` (features,) belong to the columns, each once; NO_ROW marks a new feature. `values` has the shape
    (texts, features). `coverage` (texts, views) is the share of the columns in the squared norm of each view.
    """

    present: Ints
    present_texts: Ints
    buckets: Ints
    rows: Ints
    values: Floats
    coverage: Floats


def design_matrix(
    features: TextFeatures, table: BucketRows, rarity: Callable[[Ints], Floats], *, new: Ints = NO_BUCKETS
) -> DesignMatrix:
    """Sub-linear TF-IDF: `1 + log(count)`, times `rarity`, scaled to the norm of the view.

    `new` are buckets without a row that get columns; ascending, each once. Other features without a row only
    increase the norm, so that unknown words reduce the margins.
    """
    count = len(features.fingerprints)
    groups, buckets, occurrences = _counted(features, table)
    values = (1.0 + np.log(occurrences)) * rarity(buckets)
    texts, norms = groups % count, _squared_norms(groups, values, count)
    columns = _columns(buckets, table, new)
    known = columns != NO_ROW
    groups, columns, values = groups[known], columns[known], values[known]
    coverage = _squared_norms(groups, values, count) / np.maximum(norms, _SMALLEST)
    values *= (np.repeat(VIEW_NORMS, count) / np.sqrt(np.maximum(norms, _SMALLEST)))[groups]
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
    """Row of each bucket. The new buckets get the numbers after the last row."""
    rows = table.rows_of(buckets)
    if len(new):
        places = np.minimum(np.searchsorted(new, buckets), len(new) - 1)
        rows = np.where(new[places] == buckets, places + len(table), rows)
    return rows


def _counted(features: TextFeatures, table: BucketRows) -> tuple[Ints, Ints, Doubles]:
    """Occurrences of each bucket in each view of each text: (view * count + text, bucket, occurrences)."""
    groups = features.views * len(features.fingerprints) + features.texts
    keys = (groups << _BUCKET_BITS) | table.buckets_of(features.hashes)
    keys.sort()
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(first, append=len(keys)).astype(np.float64)
    keys = keys[first]
    return keys >> _BUCKET_BITS, keys & ((1 << _BUCKET_BITS) - 1), counts


def _squared_norms(groups: Ints, values: Doubles, count: int) -> Doubles:
    return np.asarray(np.bincount(groups, values * values, minlength=VIEWS * count), dtype=np.float64)


def _dense(columns: Ints, texts: Ints, values: Doubles, count: int) -> tuple[Ints, Floats]:
    """Ascending distinct columns, and the matrix (texts, columns) of these values."""
    distinct, places = unique_below(int(columns.max(initial=0)) + 1, columns)
    dense = np.zeros(count * len(distinct), dtype=np.float32)
    np.add.at(dense, texts * len(distinct) + places, values.astype(np.float32))
    return distinct, dense.reshape(count, len(distinct))
