"""Hashed features of tokens in context, computed for a whole batch.

A token has its lower form, shape, prefixes, suffixes, character n-grams and Brown cluster. It also has the
words, shapes, suffixes and clusters of its neighbours, and pairs of neighbours. A segment has its words as
context.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from spacy.attrs import LOWER, SHAPE
from spacy.strings import get_string_id
from spacy.tokens import Doc

from karen_learner.components.arrays import AnyArray, Hashes, Ints
from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.lexical.words import CACHED_WORDS, FeatureCache, combine, mix, salted

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
_CLUSTER_PLACES = (
    *((0, bits) for bits in (4, 6, 10, 32)),
    *((offset, bits) for offset in (-1, 1) for bits in (6, 32)),
    *((offset, 32) for offset in (-2, 2)),
)
"""Offsets of tokens and lengths of their cluster paths in bits."""
_PREFIX, _SUFFIX, _NGRAM = "\x01", "\x02", "\x03"
_PAIR_SALT, _CONTEXT_SALT, _CLUSTER_SALT, _CLUSTER_PAIR_SALT = 50, 104, 200, 300


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


@dataclass(frozen=True)
class TokenFeatures:
    """Feature hashes of a batch, NO_FEATURE in unused places.

    `tokens` (tokens, places): by token, segment after segment. `contexts` (segments, words): by segment.
    """

    tokens: Hashes
    contexts: Hashes


def cut_into_segments(lengths: Sequence[int], *, max_tokens: int) -> Segments:
    """Segments of at most `max_tokens` for texts of these lengths. Empty texts have none."""
    counts = np.array([-(-length // max_tokens) for length in lengths], dtype=np.int64)
    texts = np.repeat(np.arange(len(counts)), counts)
    nth = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = nth * max_tokens
    sizes = np.minimum(np.asarray(lengths, dtype=np.int64)[texts] - starts, max_tokens)
    order = np.argsort(-sizes, kind="stable")
    return Segments(texts[order], starts[order], sizes[order])


@lru_cache(maxsize=1)
def _parts_cache() -> FeatureCache[int, Hashes]:
    """One cache for all models of a process: the parts of a word do not depend on the model."""
    return FeatureCache(capacity=CACHED_WORDS)


@dataclass(frozen=True)
class TokenFeaturizer:
    """Token features of a batch. Features of a word alone are cached."""

    clusters: WordClusters = field(default_factory=WordClusters)

    def __call__(self, docs: Sequence[Doc], segments: Segments) -> TokenFeatures:
        """Features of the segments of these documents, which share one vocabulary."""
        spans: Iterator[Any] = (docs[text][start:end] for text, start, end in segments.places())
        pieces = [span.to_array([LOWER, SHAPE]) for span in spans]
        flat = np.concatenate([np.zeros((0, 2), dtype=np.uint64), *pieces])
        word_of: Callable[[int], str] = docs[0].vocab.strings.__getitem__ if docs else str
        return TokenFeatures(self._token_features(flat, segments, word_of), _contexts(flat[:, 0], segments))

    def _token_features(self, flat: Hashes, segments: Segments, word_of: Callable[[int], str]) -> Hashes:
        borders = np.repeat(np.arange(len(segments)) * 2 + 1, segments.lengths) * WINDOW
        centres = np.arange(len(flat)) + borders
        size = len(flat) + 2 * WINDOW * len(segments)
        words, shapes, suffixes = (np.full(size, BORDER) for _ in range(3))
        words[centres], shapes[centres] = flat[:, 0], flat[:, 1]
        found = _parts_cache().get(
            flat[:, 0].tolist(), lambda keys: [_parts_of_word(word_of(key)) for key in keys]
        )
        parts = np.array(found, dtype=np.uint64)
        parts = parts.reshape(len(flat), PARTS)
        suffixes[centres] = parts[:, NEIGHBOUR_SUFFIX]
        features = _window_features(words, shapes, suffixes, centres)
        if len(self.clusters):
            paths = np.full(size, NO_FEATURE)
            paths[centres] = self.clusters.values_of(flat[:, 0])
            features += _cluster_features(paths, centres)
        return np.concatenate([parts, np.stack(features, axis=1)], axis=1)


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


def _window_features(words: Hashes, shapes: Hashes, suffixes: Hashes, centres: Ints) -> list[Hashes]:
    """Words, shapes and suffixes in the window, and pairs of them. `centres` are the places of the tokens."""
    singles = [(words, offset) for offset in (-2, -1, 0, 1, 2)]
    singles += [(shapes, offset) for offset in (-1, 0, 1)]
    singles += [(suffixes, offset) for offset in (-1, 1)]
    pairs = [
        (words, -2, words, -1),
        (words, -1, words, 0),
        (words, 0, words, 1),
        (words, 1, words, 2),
        (words, -1, words, 1),
        (shapes, -1, shapes, 0),
        (shapes, 0, shapes, 1),
        (words, -1, shapes, 0),
        (words, 1, shapes, 0),
    ]
    return [
        *(salted(array[centres + offset], salt=n + 1) for n, (array, offset) in enumerate(singles)),
        *(
            combine(first[centres + left], second[centres + right], salt=_PAIR_SALT + n)
            for n, (first, left, second, right) in enumerate(pairs)
        ),
    ]


def _cluster_features(paths: Hashes, centres: Ints) -> list[Hashes]:
    """Path prefixes of the words in the window and pairs of paths, NO_FEATURE without a cluster."""
    features = []
    for n, (offset, bits) in enumerate(_CLUSTER_PLACES):
        near = paths[centres + offset]
        prefixes = salted(near & np.uint64((1 << bits) - 1), salt=_CLUSTER_SALT + n)
        features.append(np.where(near == 0, NO_FEATURE, prefixes))
    for n, offset in enumerate((-1, 1)):
        centre, near = paths[centres], paths[centres + offset]
        pairs = combine(near, centre, salt=_CLUSTER_PAIR_SALT + n)
        features.append(np.where((near == 0) | (centre == 0), NO_FEATURE, pairs))
    return features


def _contexts(words: Hashes, segments: Segments) -> Hashes:
    """Words of each segment with repetitions; shape (segments, words)."""
    width = int(segments.lengths.max(initial=0))
    present = np.arange(width)[None, :] < segments.lengths[:, None]
    contexts = np.full(present.shape, NO_FEATURE, dtype=np.uint64)
    contexts[present] = mix(salted(words, salt=_CONTEXT_SALT))
    return contexts
