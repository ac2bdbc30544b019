"""The features of tokens in their context, as hashes, for a whole batch of texts at a time.

Of a token: its lower form, its shape, prefixes and suffixes, character n-grams, its Brown cluster; the
words, shapes, endings and clusters around it, pairs of neighbours. Of its segment: the words in it,
wherever they stand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import LOWER, SHAPE
from spacy.strings import get_string_id
from spacy.tokens import Doc

from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.lexical.hashing import (
    CACHED_WORDS,
    Hashes,
    LexemeCache,
    combine,
    mix,
    salted,
)

Ints = NDArray[np.int64]
NO_FEATURE = np.uint64(0)
BORDER = np.uint64(1)
"""Stands for the words before the first and after the last one."""
REACH = 2
"""So many words on either side have a say."""
AFFIX_SIZES = (1, 2, 3, 4)
NGRAM_SIZE = 3
NGRAMS = 8


@dataclass(frozen=True)
class Segments:
    """Stretches of texts that are read as chains, in the order of falling length.

    `texts`, `starts` and `lengths` have the shape (segments,): the text of each, its first token there,
    and its number of tokens, which is never 0.
    """

    texts: Ints
    starts: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, start: int, end: int) -> "Segments":
        """The segments from `start` to before `end`."""
        return Segments(self.texts[start:end], self.starts[start:end], self.lengths[start:end])

    def slices_of(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Of arrays with a value for each token of each text those of the segments."""
        return [arrays[text][start:end] for text, start, end in self.places()]

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Of each segment the text, the first token there, and the end."""
        ends = self.starts + self.lengths
        return zip(self.texts.tolist(), self.starts.tolist(), ends.tolist(), strict=True)


@dataclass(frozen=True)
class TokenFeatures:
    """Feature hashes of a batch, NO_FEATURE where a place is not used.

    `tokens` (tokens, places): those of the tokens, segment after segment. `contexts` (segments, words):
    those of the segments.
    """

    tokens: Hashes
    contexts: Hashes


def cut_into_segments(lengths: Sequence[int], *, max_tokens: int) -> Segments:
    """Segments of at most `max_tokens` of texts with these lengths. Empty texts have none."""
    counts = np.array([-(-length // max_tokens) for length in lengths], dtype=np.int64)
    texts = np.repeat(np.arange(len(counts)), counts)
    nth = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = nth * max_tokens
    sizes = np.minimum(np.asarray(lengths, dtype=np.int64)[texts] - starts, max_tokens)
    order = np.argsort(-sizes, kind="stable")
    return Segments(texts[order], starts[order], sizes[order])


@lru_cache(maxsize=1)
def _parts_cache() -> LexemeCache:
    """The parts of a word are the same for all models of a process: one that was just loaded knows them."""
    return LexemeCache(lambda words: list(map(_parts_of_word, words)), capacity=CACHED_WORDS)


class TokenFeaturizer:
    """Makes the features of tokens. What depends on a word alone is computed once for each word."""

    def __init__(self, clusters: WordClusters | None = None) -> None:
        self.clusters = WordClusters() if clusters is None else clusters
        self._lexemes = _parts_cache()

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenFeaturizer, (self.clusters,)

    def __call__(self, docs: Sequence[Doc], segments: Segments) -> TokenFeatures:
        """The features of the segments of these documents, which share one vocabulary."""
        spans: Iterator[Any] = (docs[text][start:end] for text, start, end in segments.places())
        pieces = [span.to_array([LOWER, SHAPE]) for span in spans]
        flat = np.concatenate([np.zeros((0, 2), dtype=np.uint64), *pieces])
        word_of: Callable[[int], str] = docs[0].vocab.strings.__getitem__ if docs else str
        return TokenFeatures(self._of_tokens(flat, segments, word_of), _contexts(flat[:, 0], segments))

    def _of_tokens(self, flat: Hashes, segments: Segments, word_of: Callable[[int], str]) -> Hashes:
        centres = np.arange(len(flat)) + np.repeat(np.arange(len(segments)) * 2 + 1, segments.lengths) * REACH
        size = len(flat) + 2 * REACH * len(segments)
        words, shapes, endings = (np.full(size, BORDER) for _ in range(3))
        words[centres], shapes[centres] = flat[:, 0], flat[:, 1]
        parts = np.array(self._lexemes.look_up(flat[:, 0].tolist(), word_of), dtype=np.uint64)
        parts = parts.reshape(len(flat), PARTS)
        endings[centres] = parts[:, ENDING]
        features = _Around(words, shapes, endings, centres).features()
        if len(self.clusters):
            paths = np.full(size, NO_FEATURE)
            paths[centres] = self.clusters.look_up(flat[:, 0])
            features += _cluster_features(paths, centres)
        return np.concatenate([parts, np.stack(features, axis=1)], axis=1)


PARTS = 2 * len(AFFIX_SIZES) + NGRAMS
ENDING = len(AFFIX_SIZES) + 2
"""Where among the parts of a word the ending is that its neighbours look at."""
_CLUSTER_PLACES = (
    *((0, bits) for bits in (4, 6, 10, 32)),
    *((offset, bits) for offset in (-1, 1) for bits in (6, 32)),
    *((offset, 32) for offset in (-2, 2)),
)
"""Neighbours and how many bits of their path count."""
_PREFIX, _SUFFIX, _NGRAM = "\x01", "\x02", "\x03"
_CONTEXT = 104


def _parts_of_word(word: str) -> Hashes:
    """Prefixes, suffixes and character n-grams; shape (PARTS,). Of a long word the ends alone count."""
    sizes = [size for size in AFFIX_SIZES if size <= len(word)]
    parts = np.full(PARTS, NO_FEATURE, dtype=np.uint64)
    parts[: len(sizes)] = [get_string_id(_PREFIX + word[:size]) for size in sizes]
    suffixes = [get_string_id(_SUFFIX + word[-size:]) for size in sizes]
    parts[len(AFFIX_SIZES) : len(AFFIX_SIZES) + len(sizes)] = suffixes
    bordered = f"<{word[: NGRAMS + NGRAM_SIZE]}>"
    ngrams = [bordered[start : start + NGRAM_SIZE] for start in range(len(bordered) - NGRAM_SIZE + 1)][
        :NGRAMS
    ]
    parts[2 * len(AFFIX_SIZES) :][: len(ngrams)] = [get_string_id(_NGRAM + ngram) for ngram in ngrams]
    return parts


@dataclass(frozen=True)
class _Around:
    """Words, shapes and endings with room on either side of every segment, and where its tokens are."""

    words: Hashes
    shapes: Hashes
    endings: Hashes
    centres: Ints

    def features(self) -> list[Hashes]:
        singles = [(self.words, offset) for offset in (-2, -1, 0, 1, 2)]
        singles += [(self.shapes, offset) for offset in (-1, 0, 1)]
        singles += [(self.endings, offset) for offset in (-1, 1)]
        pairs = [
            (self.words, -2, self.words, -1),
            (self.words, -1, self.words, 0),
            (self.words, 0, self.words, 1),
            (self.words, 1, self.words, 2),
            (self.words, -1, self.words, 1),
            (self.shapes, -1, self.shapes, 0),
            (self.shapes, 0, self.shapes, 1),
            (self.words, -1, self.shapes, 0),
            (self.words, 1, self.shapes, 0),
        ]
        features = [
            salted(array[self.centres + offset], salt=place + 1)
            for place, (array, offset) in enumerate(singles)
        ]
        for place, (one, here, other, there) in enumerate(pairs):
            features.append(combine(one[self.centres + here], other[self.centres + there], salt=50 + place))
        return features


def _cluster_features(paths: Hashes, centres: Ints) -> list[Hashes]:
    """The beginnings of the paths of the words and of those around them, NO_FEATURE where there is none."""
    features = []
    for place, (offset, bits) in enumerate(_CLUSTER_PLACES):
        near = paths[centres + offset]
        beginnings = salted(near & np.uint64((1 << bits) - 1), salt=200 + place)
        features.append(np.where(near == 0, NO_FEATURE, beginnings))
    for place, offset in enumerate((-1, 1)):
        here, near = paths[centres], paths[centres + offset]
        pairs = combine(near, here, salt=300 + place)
        features.append(np.where((near == 0) | (here == 0), NO_FEATURE, pairs))
    return features


def _contexts(words: Hashes, segments: Segments) -> Hashes:
    """The words of each segment, each as often as it stands there."""
    width = int(segments.lengths.max(initial=0))
    there = np.arange(width)[None, :] < segments.lengths[:, None]
    contexts = np.full(there.shape, NO_FEATURE, dtype=np.uint64)
    contexts[there] = mix(salted(words, salt=_CONTEXT))
    return contexts
