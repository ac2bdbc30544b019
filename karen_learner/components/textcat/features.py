"""Hashed features of texts, and their TF-IDF design matrix; computed for a whole batch.

A feature belongs to a *view*: words with pairs of neighbours, character n-grams, unordered pairs of words,
word clusters, polarity. Each view of a text is normalized separately, so that no view dominates.

The features of a text do not depend on weights. All pipes with the same options share a cache of them. So do
the passes of a training, and its models.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import LOWER
from spacy.tokens import Doc

from karen_learner.components.arrays import Doubles, Floats, Hashes, Ints, Places
from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.lexical.polarities import WordPolarities
from karen_learner.components.lexical.words import (
    CACHED_WORDS,
    FeatureCache,
    WithoutCaches,
    cached_features,
    character_ngrams,
    first_of_pair,
    in_unicode_form,
    mix,
    salted,
    slices,
    word_lookup,
)
from karen_learner.components.online.feature_rows import NO_ROW, BucketRows, unique_below

WORDS, CHARACTERS, PAIRS, CLUSTERS, POLARITY = range(5)
VIEW_NORMS = np.array([1.0, 1.0, 1.0, 0.7, 0.4])
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
MAX_WORD_CHARS = 1_000
"""In languages without white space, a word of spaCy may be a sentence."""
KEYS_OF_A_WORD = 200
"""A word with more keys counts as several words in the cache."""
_WORD_SALT, _BIGRAM_SALT, _CHARACTER_SALT, _PAIR_SALT, _TEXT_SALT = range(1, 6)
_CLUSTER_SALT, _CLUSTER_BIGRAM_SALT = np.uint64(64), np.uint64(128)
_GOOD_SALT, _BAD_SALT, _NEUTRAL_SALT = 200, 201, 202
_CLUSTER_MARK = np.uint64(1 << 32)
"""Separates cluster paths from the marks of the text borders."""
_VIEW_SHIFT = 28
"""The key of a feature has its bucket in the lowest bits, then the view."""
_BUCKET_MASK = np.int32((1 << _VIEW_SHIFT) - 1)
_NEIGHBOUR_VIEWS = np.array([WORDS, CLUSTERS, CLUSTERS], dtype=np.int32)
"""Views of the families of neighbours: words, and clusters of two sizes."""
_NEIGHBOUR_SALTS = np.concatenate(
    [[np.uint64(_BIGRAM_SALT)], CLUSTER_BIGRAM_BITS[:, 0] + _CLUSTER_BIGRAM_SALT]
)
_FAMILIES = len(_NEIGHBOUR_SALTS)
_WORD, _FIRST, _PAIR, _FINGERPRINT = 0, _FAMILIES, 2 * _FAMILIES, 2 * _FAMILIES + 1
_SMALLEST = 1e-9
NO_BUCKETS: Ints = np.zeros(0, dtype=np.int64)
NO_KEYS: Places = np.zeros(0, dtype=np.int32)


class TextFeatures(NamedTuple):
    """Features of a batch, each once for each view of a text; ordered by text, view and bucket.

    `buckets`, `views` and `values` have the shape (features,). A value is `1 + log(occurrences)`. `lengths`
    (texts,) are the numbers of features of the texts, `fingerprints` (texts,) identify the texts.
    """

    buckets: Places
    views: NDArray[np.uint8]
    values: Floats
    lengths: Ints
    fingerprints: Hashes

    @property
    def texts(self) -> Ints:
        """Text of each feature."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def groups(self) -> Ints:
        """Text and view of each feature, as `text * VIEWS + view`."""
        first = np.arange(0, len(self.lengths) * VIEWS, VIEWS)
        return np.asarray(np.repeat(first, self.lengths) + self.views)


_NO_TEXTS = TextFeatures(
    np.zeros(0, dtype=np.int32),
    np.zeros(0, dtype=np.uint8),
    np.zeros(0, dtype=np.float32),
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.uint64),
)


class WordFeatures(NamedTuple):
    """The part of a word in the features of a text.

    `keys` (features,): of the word, its character n-grams and its clusters. `numbers`: hashes of the word as
    second member of a pair of neighbours in each family, and as first one (from `_FIRST`). The last ones are
    those of an unordered pair (`_PAIR`) and of the fingerprint. `tenths` is the polarity.
    """

    keys: Places
    numbers: Hashes
    tenths: int


@dataclass(frozen=True)
class TextNgrams(WithoutCaches):
    """Features of texts, in `2**bits` buckets.

    Only the first `max_words` words are used, and the distinct ones of the first `pair_words` make pairs.
    So the number of features is bounded. The views of `clusters` and `polarities` are empty without them.
    """

    char_sizes: tuple[int, ...]
    max_words: int
    pair_words: int
    bits: int = 20
    clusters: WordClusters = field(default_factory=WordClusters)
    polarities: WordPolarities = field(default_factory=WordPolarities)

    def __call__(self, docs: Sequence[Doc]) -> TextFeatures:
        """Features of a batch. An empty document has none."""
        parts = self.by_text(docs)
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(parts or [_NO_TEXTS]), strict=True)
        return TextFeatures(*(np.concatenate(column) for column in columns))

    def by_text(self, docs: Sequence[Doc]) -> list[TextFeatures]:
        """Features of each document."""
        texts = [doc.to_array(LOWER)[: self.max_words].tobytes() for doc in docs]
        word_of = word_lookup(docs)
        return self._texts.get(texts, partial(self._of_texts, word_of=word_of))

    @cached_property
    def _texts(self) -> FeatureCache[bytes, TextFeatures]:
        return text_cache(self)

    @cached_property
    def _words(self) -> FeatureCache[int, WordFeatures]:
        return word_cache(self)

    def _of_texts(self, texts: Sequence[bytes], *, word_of: Callable[[int], str]) -> list[TextFeatures]:
        """Features of texts. A text is given by the bytes of its word hashes."""
        written: list[list[int]] = [np.frombuffer(text, dtype=np.uint64).tolist() for text in texts]
        words, word_of = in_unicode_form(written, word_of)
        found = iter(self._words.get(list(chain(*words)), partial(self._of_words, word_of=word_of)))
        batch = _Batch.framed([list(islice(found, len(one))) for one in words])
        parts = [
            [*(word.keys for word in alone), neighbours, pairs, degrees]
            for alone, neighbours, pairs, degrees in zip(
                batch.words,
                self._neighbours(batch),
                self._pairs(batch, words),
                self._degrees(batch),
                strict=True,
            )
        ]
        sizes = [sum(map(len, part)) for part in parts]
        return _counted(np.concatenate(list(chain(*parts))), sizes, batch.fingerprints())

    def _keys(self, hashes: Hashes, views: int | Places) -> Places:
        """Keys of the hashes. An array of views is broadcast."""
        buckets = (hashes >> np.uint64(64 - self.bits)).astype(np.int32)
        return np.asarray(buckets | views << _VIEW_SHIFT)

    def _of_words(self, words: Sequence[int], *, word_of: Callable[[int], str]) -> list[WordFeatures]:
        """Features of words, given by their hashes."""
        hashes = np.array(words, dtype=np.uint64)
        own = self._keys(salted(hashes, salt=_WORD_SALT), WORDS)
        characters = self._characters(list(map(word_of, words)))
        clusters, prefixes = self._clusters(hashes)
        numbers = np.stack(
            [
                *prefixes,
                *first_of_pair(prefixes, salt=_NEIGHBOUR_SALTS[:, None]),
                first_of_pair(hashes, salt=_PAIR_SALT),
                salted(hashes, salt=_TEXT_SALT),
            ],
            axis=1,
        )
        keys = map(np.concatenate, zip(own[:, None], characters, clusters, strict=True))
        tenths = self.polarities.values_of(hashes).tolist()
        return list(map(WordFeatures, keys, numbers, tenths))

    def _characters(self, words: Sequence[str]) -> list[Places]:
        """Keys of the character n-grams of each word."""
        if not self.char_sizes:
            return [NO_KEYS] * len(words)
        ngrams = character_ngrams(
            words, sizes=self.char_sizes, max_chars=MAX_WORD_CHARS, salt=_CHARACTER_SALT
        )
        return [self._keys(hashes, CHARACTERS) for hashes in ngrams]

    def _clusters(self, words: Hashes) -> tuple[Places, Hashes]:
        """Keys of the clusters of each word, and the word in each family of neighbours, shape (families,
        words). An unknown word is its own cluster."""
        if not len(self.clusters):
            return np.zeros((len(words), 0), dtype=np.int32), np.tile(words, (_FAMILIES, 1))
        paths = self.clusters.values_of(words).astype(np.uint64)

        def prefixes(bits: Hashes) -> Hashes:
            marked = _CLUSTER_MARK | (paths & ((np.uint64(1) << bits) - np.uint64(1)))
            return np.where(paths == 0, words, marked)

        alone = salted(prefixes(CLUSTER_BITS), salt=CLUSTER_BITS + _CLUSTER_SALT)
        return self._keys(alone, CLUSTERS).T, np.concatenate([words[None], prefixes(CLUSTER_BIGRAM_BITS)])

    def _neighbours(self, batch: "_Batch") -> Iterator[Places]:
        """Pairs of neighbouring words and of their clusters. The borders of a text count as words."""
        families = _FAMILIES if len(self.clusters) else 1
        first, second = batch.numbers[:-1, _FIRST : _FIRST + families], batch.numbers[1:, :families]
        keys = self._keys(mix(first ^ second), _NEIGHBOUR_VIEWS[:families])
        for start, words in zip(batch.starts, batch.words, strict=True):
            yield keys[start : start + len(words) + 1].ravel() if words else NO_KEYS

    def _pairs(self, batch: "_Batch", texts: Sequence[Sequence[int]]) -> Iterator[Places]:
        """Unordered pairs of distinct words among the first ones of each text. The smaller hash is first."""
        rows: list[int] = []
        positions: list[Ints] = []
        for words, start in zip(texts, batch.starts, strict=True):
            row_of = dict(zip(words[: self.pair_words], count(start + 1)))
            positions.append(_pair_positions(len(row_of)) + len(rows))
            rows += [row_of[word] for word in sorted(row_of)]
        first, second = np.array(rows, dtype=np.int64)[np.concatenate(positions, axis=1)]
        keys = self._keys(mix(batch.numbers[first, _PAIR] ^ batch.numbers[second, _WORD]), PAIRS)
        yield from slices(keys, [one.shape[1] for one in positions])

    def _degrees(self, batch: "_Batch") -> Iterator[Places]:
        """Positive and negative polarity of each text in degrees.

        A text of three degrees has the features of one, two and three. A text without polar words is neutral.
        """
        for words in batch.words:
            tenths = [word.tenths for word in words if word.tenths] if len(self.polarities) else []
            good, bad = sum(one for one in tenths if one > 0), -sum(one for one in tenths if one < 0)
            if not words or not len(self.polarities):
                yield NO_KEYS
            elif not tenths:
                yield self._neutral
            else:
                degrees = (min(round(side / 10.0), MAX_DEGREES) for side in (good, bad))
                yield np.concatenate(
                    [keys[:number] for keys, number in zip(self._degree_keys, degrees, strict=True)]
                )

    @cached_property
    def _neutral(self) -> Places:
        return self._keys(salted(np.zeros(1, dtype=np.uint64), salt=_NEUTRAL_SALT), POLARITY)

    @cached_property
    def _degree_keys(self) -> list[Places]:
        degrees = np.arange(MAX_DEGREES, dtype=np.uint64)
        return [self._keys(salted(degrees, salt=salt), POLARITY) for salt in (_GOOD_SALT, _BAD_SALT)]


@lru_cache(maxsize=8)
def text_cache(ngrams: TextNgrams) -> FeatureCache[bytes, TextFeatures]:  # noqa: ARG001 - the key
    """One cache for all models of a process with these options. The keys are the word hashes of texts."""
    return FeatureCache(capacity=cached_features(), size_of=lambda features: len(features.buckets))


@lru_cache(maxsize=8)
def word_cache(ngrams: TextNgrams) -> FeatureCache[int, WordFeatures]:  # noqa: ARG001 - the key
    """One cache for all models of a process with these options."""
    return FeatureCache(
        capacity=CACHED_WORDS, size_of=lambda features: 1 + len(features.keys) // KEYS_OF_A_WORD
    )


def _border(mark: np.uint64) -> Hashes:
    """Numbers of a border of a text, which is a word in pairs of neighbours."""
    marks = np.full(_FAMILIES, mark)
    return np.concatenate([marks, first_of_pair(marks, salt=_NEIGHBOUR_SALTS), np.zeros(2, dtype=np.uint64)])


_START_NUMBERS, _END_NUMBERS = _border(np.uint64(1)), _border(np.uint64(2))


@dataclass(frozen=True)
class _Batch:
    """Words of each text, and their numbers.

    `numbers` has a row for each word, and one for either border of a text with words. `starts` are the first
    rows of all texts, `filled` those of the texts with words.
    """

    words: list[list[WordFeatures]]
    numbers: Hashes
    starts: list[int]
    filled: Ints

    @classmethod
    def framed(cls, texts: list[list[WordFeatures]]) -> "_Batch":
        """The batch of these texts."""
        rows: list[Hashes] = []
        starts = []
        for words in texts:
            starts.append(len(rows))
            if words:
                rows += [_START_NUMBERS, *(word.numbers for word in words), _END_NUMBERS]
        filled = [start for start, words in zip(starts, texts, strict=True) if words]
        numbers = np.concatenate([np.zeros(0, dtype=np.uint64), *rows]).reshape(-1, len(_START_NUMBERS))
        return cls(texts, numbers, starts, np.array(filled, dtype=np.int64))

    def fingerprints(self) -> Hashes:
        """Hash of the bag of words of each text; never 0."""
        sums = np.zeros(len(self.words), dtype=np.uint64)
        if len(self.filled):
            sums[[bool(words) for words in self.words]] = np.add.reduceat(
                self.numbers[:, _FINGERPRINT], self.filled
            )
        return sums | np.uint64(1)


@lru_cache(maxsize=256)
def _pair_positions(count: int) -> Ints:
    """Positions of all pairs of this number of words; shape (2, pairs)."""
    return np.stack(np.triu_indices(count, 1))


def _counted(keys: Places, sizes: Sequence[int], fingerprints: Hashes) -> list[TextFeatures]:
    """Features of texts with these numbers of keys. Sorts the keys of each text in place."""
    for part in slices(keys, sizes):
        part.sort()
    is_first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    ends = np.cumsum(sizes)
    is_first[ends[:-1][ends[:-1] < len(keys)]] = True
    first = np.flatnonzero(is_first)
    values = (1.0 + np.log(np.append(first[1:], len(keys)) - first)).astype(np.float32)
    keys = keys[first]
    buckets, views = keys & _BUCKET_MASK, (keys >> _VIEW_SHIFT).astype(np.uint8)
    lengths = np.diff(np.searchsorted(first, ends), prepend=0)
    split = (slices(array, lengths.tolist()) for array in (buckets, views, values))
    ones = (slices(array, [1] * len(sizes)) for array in (lengths, fingerprints))
    return list(map(TextFeatures, *split, *ones))


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
    count, groups = len(features.lengths), features.groups
    buckets: Ints = features.buckets.astype(np.int64)
    values = features.values * rarity(buckets)
    texts, norms = features.texts, squared_norms(groups, values, count)
    columns = _columns(buckets, table, new)
    known = columns != NO_ROW
    groups, columns, values = groups[known], columns[known], values[known]
    coverage = coverage_of(squared_norms(groups, values, count), norms)
    values = values * view_factors(norms)[groups]
    distinct, dense = _dense(columns, texts[known], values, count)
    old = distinct < len(table)
    return DesignMatrix(
        present=buckets,
        present_texts=texts,
        buckets=np.concatenate([table.buckets[distinct[old] - 1], new[distinct[~old] - len(table)]]),
        rows=np.where(old, distinct, NO_ROW),
        values=dense,
        coverage=coverage,
    )


def _columns(buckets: Ints, table: BucketRows, new: Ints) -> Ints:
    """Row of each bucket. The new buckets get the numbers after the last row."""
    rows = table.rows_of(buckets)
    if len(new):
        places = np.minimum(np.searchsorted(new, buckets), len(new) - 1)
        rows = np.where(new[places] == buckets, places + len(table), rows)
    return rows


def squared_norms(groups: Ints, values: Floats, count: int) -> Doubles:
    """Squared norm of each view of `count` texts; shape (texts * VIEWS,)."""
    return np.asarray(np.bincount(groups, values * values, minlength=count * VIEWS), dtype=np.float64)


def coverage_of(known: Doubles, norms: Doubles) -> Floats:
    """Share of the squared norms of known features; shape (texts, views)."""
    return (known / np.maximum(norms, _SMALLEST)).astype(np.float32).reshape(-1, VIEWS)


def view_factors(squared_norms: Doubles) -> Floats:
    """Factors that scale views with these squared norms to the norms of their views."""
    by_text = VIEW_NORMS / np.sqrt(np.maximum(squared_norms, _SMALLEST)).reshape(-1, VIEWS)
    return by_text.astype(np.float32).ravel()


def _dense(columns: Ints, texts: Ints, values: Doubles, count: int) -> tuple[Ints, Floats]:
    """Ascending distinct columns, and the matrix (texts, columns) of these values."""
    distinct, places = unique_below(int(columns.max(initial=0)) + 1, columns)
    dense = np.zeros(count * len(distinct), dtype=np.float32)
    np.add.at(dense, texts * len(distinct) + places, values.astype(np.float32))
    return distinct, dense.reshape(count, len(distinct))
