"""Hashed features of tokens in context, computed for a whole batch, and cached by the words of a segment.

A token has its lower form, shape, prefixes, suffixes, character n-grams and Brown cluster. It also has the
words, shapes, suffixes and clusters of its neighbours, and pairs of neighbours. A segment has its words as
context.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from spacy.attrs import LOWER, SHAPE
from spacy.strings import get_string_id
from spacy.tokens import Doc

from karen_learner.components.arrays import AnyArray, Hashes, Ints, Places
from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.lexical.words import (
    CACHED_WORDS,
    FeatureCache,
    WithoutCaches,
    cached_features,
    first_of_pair,
    mix,
    salted,
    slices,
    token_forms,
    word_lookup,
)

NO_FEATURE = np.uint64(0)
BORDER = np.uint64(1)
"""The word before the first and after the last one."""
WINDOW = 2
"""Number of neighbours on either side."""
AFFIX_SIZES = (1, 2, 3, 4)
NGRAM_SIZE = 3
NGRAMS = 8
PARTS = 2 * len(AFFIX_SIZES) + NGRAMS
"""Features of a word alone: prefixes, suffixes, n-grams."""
NEIGHBOUR_SUFFIX = len(AFFIX_SIZES) + 2
"""Position, among the parts of a word, of the suffix that is a feature of its neighbours."""
_ATTRIBUTES = [LOWER, SHAPE]
_WORD, _SHAPE, _SUFFIX_KIND, _PATH = range(4)


class Single(NamedTuple):
    """A word, shape or suffix at this distance from the token."""

    kind: int
    offset: int


class Pair(NamedTuple):
    """Two of them."""

    first: int
    left: int
    second: int
    right: int


SINGLES = (
    *(Single(_WORD, offset) for offset in (-2, -1, 0, 1, 2)),
    *(Single(_SHAPE, offset) for offset in (-1, 0, 1)),
    *(Single(_SUFFIX_KIND, offset) for offset in (-1, 1)),
)
PAIRS = (
    Pair(_WORD, -2, _WORD, -1),
    Pair(_WORD, -1, _WORD, 0),
    Pair(_WORD, 0, _WORD, 1),
    Pair(_WORD, 1, _WORD, 2),
    Pair(_WORD, -1, _WORD, 1),
    Pair(_SHAPE, -1, _SHAPE, 0),
    Pair(_SHAPE, 0, _SHAPE, 1),
    Pair(_WORD, -1, _SHAPE, 0),
    Pair(_WORD, 1, _SHAPE, 0),
)
CLUSTER_PAIRS = tuple(Pair(_PATH, offset, _PATH, 0) for offset in (-1, 1))
_CLUSTER_PLACES = (
    *((0, bits) for bits in (4, 6, 10, 32)),
    *((offset, bits) for offset in (-1, 1) for bits in (6, 32)),
    *((offset, 32) for offset in (-2, 2)),
)
"""Offsets of tokens and lengths of their cluster paths in bits."""
_PREFIX, _SUFFIX, _NGRAM = "\x01", "\x02", "\x03"
_NO_CLUSTER = np.uint64(0)
_SINGLE_SALT, _PAIR_SALT, _CONTEXT_SALT, _CLUSTER_SALT, _CLUSTER_PAIR_SALT = 1, 50, 104, 200, 300


def _salts(first: int, count: int) -> Hashes:
    return np.arange(first, first + count, dtype=np.uint64)[:, None]


_SINGLE_SALTS = _salts(_SINGLE_SALT, len(SINGLES))
_PAIR_SALTS = np.concatenate([_salts(_PAIR_SALT, len(PAIRS)), _salts(_CLUSTER_PAIR_SALT, len(CLUSTER_PAIRS))])
_CLUSTER_SALTS = _salts(_CLUSTER_SALT, len(_CLUSTER_PLACES))
_CLUSTER_MASKS = np.array([[(1 << bits) - 1] for _, bits in _CLUSTER_PLACES], dtype=np.uint64)

_FIRST_PAIR = PARTS + len(SINGLES)
_FIRST_CLUSTER = _FIRST_PAIR + len(PAIRS)
_FIRST_CLUSTER_PAIR = _FIRST_CLUSTER + len(_CLUSTER_PLACES)
PLACES = _FIRST_CLUSTER_PAIR + len(CLUSTER_PAIRS)
"""Features of a token with clusters."""
_CONTEXT = PLACES + 4
_NUMBERS = _CONTEXT + 1
_OFFSETS = np.array(
    [
        *[0] * PARTS,
        *(single.offset for single in SINGLES),
        *(pair.left for pair in PAIRS),
        *(offset for offset, _ in _CLUSTER_PLACES),
        *(pair.left for pair in CLUSTER_PAIRS),
    ]
)
_SOURCES = _OFFSETS * _NUMBERS + np.arange(PLACES)
"""Distance from the first number of a token to the number of each place."""
_SECOND_SOURCES = np.array(
    [pair.right * _NUMBERS + PLACES + pair.second for pair in (*PAIRS, *CLUSTER_PAIRS)]
)
_PAIR_PLACES = np.array(
    [*range(_FIRST_PAIR, _FIRST_CLUSTER), *range(_FIRST_CLUSTER_PAIR, PLACES)], dtype=np.int64
)


@dataclass(frozen=True)
class Segments:
    """Parts of texts that are processed as chains, by descending length.

    `texts`, `starts` and `lengths` have the shape (segments,): the text of each segment, its first token, and
    its positive number of tokens.
    """

    texts: Ints
    starts: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def max_length(self) -> int:
        """Tokens of the longest segment."""
        return int(self.lengths[0]) if len(self.lengths) else 0

    def part(self, start: int, end: int) -> "Segments":
        """The segments from `start` to before `end`."""
        return Segments(self.texts[start:end], self.starts[start:end], self.lengths[start:end])

    def slices_of(self, arrays: Sequence[AnyArray]) -> list[AnyArray]:
        """For each segment its slice of the text's array, which has one value a token."""
        return [arrays[text][start:end] for text, start, end in self.places()]

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Text, start token and end token of each segment."""
        ends = self.starts + self.lengths
        return zip(self.texts.tolist(), self.starts.tolist(), ends.tolist(), strict=True)


class TokenFeatures(NamedTuple):
    """Buckets of the features of a batch, `TokenFeaturizer.no_bucket` in unused places.

    `tokens` (tokens, places): by token, segment after segment. `contexts` (segments, words): by segment.
    """

    tokens: Places
    contexts: Places


class SegmentFeatures(NamedTuple):
    """Buckets of one segment: `tokens` (tokens, places) and `context` (tokens,)."""

    tokens: Places
    context: Places


def cut_into_segments(lengths: Sequence[int], *, max_tokens: int) -> Segments:
    """Segments of at most `max_tokens` for texts of these lengths. Empty texts have none."""
    pieces = [
        (text, start, min(length - start, max_tokens))
        for text, length in enumerate(lengths)
        for start in range(0, length, max_tokens)
    ]
    pieces.sort(key=lambda piece: -piece[2])
    texts, starts, sizes = np.array(pieces, dtype=np.int64).reshape(-1, 3).T
    return Segments(texts, starts, sizes)


@dataclass(frozen=True)
class TokenFeaturizer(WithoutCaches):
    """Features of tokens in `2**bits` buckets. There are no cluster features without `clusters`.

    Segments and words are cached: their features do not depend on weights.
    """

    bits: int = 20
    clusters: WordClusters = field(default_factory=WordClusters)

    @property
    def no_bucket(self) -> int:
        """The bucket of unused places. No feature is in it."""
        return 1 << self.bits

    def __call__(self, docs: Sequence[Doc], segments: Segments) -> TokenFeatures:
        """Features of the segments of these documents."""
        arrays = [doc.to_array(_ATTRIBUTES) for doc in docs]
        texts = [arrays[text][start:end].tobytes() for text, start, end in segments.places()]
        word_of = word_lookup(docs)
        found = self._segments.get(texts, partial(self._of_segments, word_of=word_of))
        tokens = [np.zeros((0, self._places), dtype=np.int32), *(one.tokens for one in found)]
        contexts = np.full((len(segments), segments.max_length), self.no_bucket, dtype=np.int32)
        for row, one in zip(contexts, found, strict=True):
            row[: len(one.context)] = one.context
        return TokenFeatures(np.concatenate(tokens), contexts)

    @cached_property
    def _segments(self) -> FeatureCache[bytes, SegmentFeatures]:
        return _segment_cache(self)

    @cached_property
    def _words(self) -> FeatureCache[tuple[int, int], Hashes]:
        return _word_cache(self.clusters)

    @property
    def _places(self) -> int:
        """Number of features of a token."""
        return PLACES if len(self.clusters) else _FIRST_CLUSTER

    def _of_segments(
        self, segments: Sequence[bytes], *, word_of: Callable[[int], str]
    ) -> list[SegmentFeatures]:
        """Features of segments, which are given by the bytes of the lower forms and shapes of their words."""
        words = [np.frombuffer(one, dtype=np.uint64).reshape(-1, 2).tolist() for one in segments]
        keys = [(lower, shape) for one in words for lower, shape in one]
        numbers = iter(self._words.get(keys, partial(self._of_words, word_of=word_of)))
        border = [_border()] * WINDOW
        frame = [row for one in words for row in (*border, *islice(numbers, len(one)), *border)]
        lengths = [len(one) for one in words]
        borders = np.repeat(np.arange(1, 2 * len(lengths), 2) * WINDOW, lengths)
        rows = np.concatenate(frame).reshape(-1, _NUMBERS)
        features = self._features(rows, np.arange(len(keys)) + borders)
        return list(map(SegmentFeatures, *(slices(buckets, lengths) for buckets in features)))

    def _features(self, frame: Hashes, centres: Ints) -> tuple[Places, Places]:
        """Buckets of the tokens in these rows of the numbers of words, and their buckets in a context."""
        numbers, start = frame.reshape(-1), (centres * frame.shape[1])[:, None]
        count = self._places
        pairs = _PAIR_PLACES[count > _PAIR_PLACES]
        hashes = numbers.take(start + _SOURCES[:count])
        first, second = hashes[:, pairs], numbers.take(start + _SECOND_SOURCES[: len(pairs)])
        combined = mix(first ^ second)
        combined[:, len(PAIRS) :][(first[:, len(PAIRS) :] == NO_FEATURE) | (second[:, len(PAIRS) :] == 0)] = (
            NO_FEATURE
        )
        hashes[:, pairs] = combined
        return self._buckets(hashes), self._buckets(numbers.take(start[:, 0] + _CONTEXT))

    def _buckets(self, hashes: Hashes) -> Places:
        buckets = (hashes >> np.uint64(64 - self.bits)).astype(np.int32)
        buckets[hashes == NO_FEATURE] = self.no_bucket
        return buckets

    def _of_words(self, keys: Sequence[tuple[int, int]], *, word_of: Callable[[int], str]) -> list[Hashes]:
        """Numbers of words, given by the hashes of lower form and shape."""
        forms, words = token_forms(keys, word_of)
        parts = np.array(list(map(_parts_of_word, words)), dtype=np.uint64)
        lower, shapes = np.array(forms, dtype=np.uint64).T
        paths = self.clusters.values_of(lower).astype(np.uint64)
        return list(_numbers(parts, np.stack([lower, shapes, parts[:, NEIGHBOUR_SUFFIX], paths])))


@lru_cache(maxsize=8)
def _segment_cache(featurizer: "TokenFeaturizer") -> FeatureCache[bytes, SegmentFeatures]:  # noqa: ARG001 - the key
    """One cache for all models of a process with these options. The keys are the hashes of a segment."""
    return FeatureCache(capacity=cached_features(), size_of=lambda features: features.tokens.size)


@lru_cache(maxsize=8)
def _word_cache(clusters: WordClusters) -> FeatureCache[tuple[int, int], Hashes]:  # noqa: ARG001 - the key
    """One cache for all models of a process with these clusters: numbers by lower form and shape."""
    return FeatureCache(capacity=CACHED_WORDS)


def _parts_of_word(word: str) -> Hashes:
    """Prefixes, suffixes and character n-grams; shape (PARTS,). Only the first n-grams of a long word
    are used."""
    sizes = [size for size in AFFIX_SIZES if size <= len(word)]
    parts = np.full(PARTS, NO_FEATURE, dtype=np.uint64)
    parts[: len(sizes)] = [get_string_id(_PREFIX + word[:size]) for size in sizes]
    suffixes = [get_string_id(_SUFFIX + word[-size:]) for size in sizes]
    parts[len(AFFIX_SIZES) : len(AFFIX_SIZES) + len(sizes)] = suffixes
    bordered = f"<{word[: NGRAMS + NGRAM_SIZE]}>"
    starts = range(min(NGRAMS, len(bordered) - NGRAM_SIZE + 1))
    ngrams = [get_string_id(_NGRAM + bordered[start : start + NGRAM_SIZE]) for start in starts]
    parts[2 * len(AFFIX_SIZES) :][: len(ngrams)] = ngrams
    return parts


def _numbers(parts: Hashes, kinds: Hashes) -> Hashes:
    """Numbers of words; shape (words, numbers).

    `parts` (words, PARTS), `kinds` (4, words): words, shapes, suffixes and cluster paths. The first numbers
    are those of the places of a token, of a pair the part of its first member. Then come words, shapes and
    paths as second members, and the hash in a context.
    """
    paths = kinds[_PATH]
    prefixes = salted(paths & _CLUSTER_MASKS, salt=_CLUSTER_SALTS)
    firsts = first_of_pair(kinds[[pair.first for pair in (*PAIRS, *CLUSTER_PAIRS)]], salt=_PAIR_SALTS)
    known = paths != _NO_CLUSTER
    columns = [
        parts.T,
        salted(kinds[[single.kind for single in SINGLES]], salt=_SINGLE_SALTS),
        firsts[: len(PAIRS)],
        np.where(known, prefixes, NO_FEATURE),
        np.where(known, firsts[len(PAIRS) :], NO_FEATURE),
        kinds,
        mix(salted(kinds[_WORD], salt=_CONTEXT_SALT))[None],
    ]
    return np.ascontiguousarray(np.concatenate(columns).T)


@lru_cache(maxsize=1)
def _border() -> Hashes:
    """Numbers of the word beyond either end of a segment."""
    kinds = np.array([[BORDER], [BORDER], [BORDER], [_NO_CLUSTER]], dtype=np.uint64)
    return _numbers(np.full((1, PARTS), NO_FEATURE), kinds).reshape(-1)
