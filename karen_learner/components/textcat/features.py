"""The features of texts: words and pairs of neighbours, character n-grams, pairs of words anywhere in a text,
and what kinds of words there are and how good or bad they sound, where that is known of a language.

All of it works on a whole batch at a time. A *view* is one of these kinds; each view of a text is
normalized by itself, so that none drowns the others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import LOWER
from spacy.tokens import Doc

from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.lexical.hashing import (
    CACHED_WORDS,
    Hashes,
    LexemeCache,
    character_ngrams,
    combine,
    combine_unordered,
    salted,
)
from karen_learner.components.lexical.polarities import WordPolarities

WORDS, CHARACTERS, PAIRS, KINDS, POLARITY = 0, 1, 2, 3, 4
VIEW_LENGTHS = (1.0, 1.0, 1.0, 0.7, 0.4)
"""The length of each view of a text. What kind a word is says less than the word; how it sounds says much of
a sentiment, but little of an intent."""
VIEWS = len(VIEW_LENGTHS)
WAITING = (PAIRS, KINDS)
"""Views whose features get weights when a second text has them: the first one says nothing that its words do
not say, and every row of weights has to be saved, loaded and kept in memory."""
_WORD_SALT, _BIGRAM_SALT, _CHARACTER_SALT, _PAIR_SALT, _TEXT_SALT = range(1, 6)
_KIND_SALT, _KIND_BIGRAM_SALT = np.uint64(64), np.uint64(128)
_GOOD_SALT, _BAD_SALT, _NEUTRAL_SALT = 200, 201, 202
_KIND = np.uint64(1 << 32)
"""Tells kinds from the ends of a text, which are small numbers, too."""
KIND_BITS = np.array([[4], [6], [8], [12], [16]], dtype=np.uint64)
KIND_BIGRAM_BITS = np.array([[6], [12]], dtype=np.uint64)
"""So many bits of the path of its cluster say of what kind a word is: the fewer, the wider the kind."""
MOST_DEGREES = 12
"""No text counts as better or worse than this: three or four of the strongest words."""
_TEXT_START, _TEXT_END = np.uint64(1), np.uint64(2)
MAX_WORD_CHARS = 40

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TextFeatures:
    """The feature hashes of a batch, a feature as often as it occurs; all arrays have shape (features,).

    `texts` says which text of the batch a feature belongs to, `views` which view. `fingerprints` (shape
    (texts,)) tell texts apart.
    """

    hashes: Hashes
    texts: Ints
    views: Ints
    fingerprints: Hashes


class TextNgrams:
    """Makes the features of texts.

    Of a text longer than `max_words` only the beginning counts; pairs are made of the different ones among
    its first `pair_words` words. So the features of a text are bounded, whatever its length. Without
    `clusters` no word is of any kind, without `polarities` none sounds good or bad.
    """

    def __init__(
        self,
        *,
        char_sizes: Sequence[int],
        max_words: int,
        pair_words: int,
        clusters: WordClusters | None = None,
        polarities: WordPolarities | None = None,
    ) -> None:
        self.clusters = WordClusters() if clusters is None else clusters
        self.polarities = WordPolarities() if polarities is None else polarities
        self._max_words = max_words
        self._pair_words = pair_words
        self._char_sizes = tuple(char_sizes)
        self._lexemes = _character_cache(self._char_sizes)

    def __getstate__(self) -> dict[str, Any]:
        """Without what the whole process has once."""
        return {name: value for name, value in self.__dict__.items() if name != "_lexemes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lexemes = _character_cache(self._char_sizes)

    def __call__(self, docs: Sequence[Doc]) -> TextFeatures:
        """The features of a batch. An empty document has none."""
        words = [doc.to_array(LOWER)[: self._max_words] for doc in docs]
        lengths = np.array([len(array) for array in words], dtype=np.int64)
        flat = np.concatenate([*words, np.zeros(0, dtype=np.uint64)])
        texts, frame = np.repeat(np.arange(len(docs)), lengths), _Frame.of(lengths)
        word_of: Callable[[int], str] = docs[0].vocab.strings.__getitem__ if docs else str
        parts = [
            (WORDS, salted(flat, salt=_WORD_SALT), texts),
            (WORDS, frame.neighbours(flat, salt=_BIGRAM_SALT), frame.owners),
            (CHARACTERS, *self._characters(flat, texts, word_of)),
            (PAIRS, *self._pairs(flat, texts, lengths)),
            *((KINDS, *kinds) for kinds in self._kinds(flat, texts, frame)),
            *((POLARITY, *degrees) for degrees in self._degrees(flat, texts, lengths)),
        ]
        return TextFeatures(
            hashes=np.concatenate([hashes for _, hashes, _ in parts]),
            texts=np.concatenate([owners for _, _, owners in parts]),
            views=np.repeat([view for view, _, _ in parts], [len(hashes) for _, hashes, _ in parts]),
            fingerprints=_fingerprints(flat, texts, lengths),
        )

    def _characters(self, flat: Hashes, texts: Ints, word_of: Callable[[int], str]) -> tuple[Hashes, Ints]:
        """The character n-grams of every word, and the text of each."""
        if not self._char_sizes or not len(flat):
            return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        ngrams = self._lexemes.look_up(flat.tolist(), word_of)
        return np.concatenate(ngrams), np.repeat(texts, [len(array) for array in ngrams])

    def _pairs(self, flat: Hashes, texts: Ints, lengths: Ints) -> tuple[Hashes, Ints]:
        """The unordered pairs of the different words of each text, and the text of each."""
        words, owners, counts = _different_words(flat, texts, lengths, limit=self._pair_words)
        pairs = [_pair_positions(count) for count in counts.tolist()]
        starts = np.cumsum(counts) - counts
        sizes = [len(first) for first, _ in pairs]
        offsets = np.repeat(starts, sizes)
        first = np.concatenate([np.zeros(0, dtype=np.int64), *(first for first, _ in pairs)]) + offsets
        second = np.concatenate([np.zeros(0, dtype=np.int64), *(second for _, second in pairs)]) + offsets
        return combine_unordered(words[first], words[second], salt=_PAIR_SALT), owners[first]

    def _kinds(self, flat: Hashes, texts: Ints, frame: "_Frame") -> Iterator[tuple[Hashes, Ints]]:
        """The kinds of the words and of neighbours, and the text of each. A word that no cluster has is of a
        kind of its own."""
        if not len(self.clusters):
            return
        paths = self.clusters.look_up(flat).astype(np.uint64)

        def kinds(bits: Hashes) -> Hashes:
            return np.where(paths == 0, flat, _KIND | (paths & ((np.uint64(1) << bits) - np.uint64(1))))

        words = salted(kinds(KIND_BITS), salt=KIND_BITS + _KIND_SALT)
        yield words.ravel(), np.tile(texts, len(words))
        pairs = frame.neighbours(kinds(KIND_BIGRAM_BITS), salt=KIND_BIGRAM_BITS + _KIND_BIGRAM_SALT)
        yield pairs.ravel(), np.tile(frame.owners, len(pairs))

    def _degrees(self, flat: Hashes, texts: Ints, lengths: Ints) -> Iterator[tuple[Hashes, Ints]]:
        """How good and how bad the words of each text sound together, in whole degrees, counted off: a text
        of three degrees has the first, the second and the third. One none of whose words sounds like anything
        is neutral, which is not the same as sounding like almost nothing."""
        if not len(self.polarities):
            return
        tenths, count = self.polarities.look_up(flat).astype(np.int64), len(lengths)
        good, bad = (np.bincount(texts, np.maximum(side, 0), minlength=count) for side in (tenths, -tenths))
        for total, salt in ((good, _GOOD_SALT), (bad, _BAD_SALT)):
            degrees = np.minimum(np.rint(total / 10.0), MOST_DEGREES).astype(np.int64)
            owners = np.repeat(np.arange(count), degrees)
            nth = np.arange(len(owners)) - np.repeat(np.cumsum(degrees) - degrees, degrees)
            yield salted(nth.astype(np.uint64), salt=salt), owners
        neutral = np.flatnonzero((good == 0) & (bad == 0) & (lengths > 0))
        yield salted(np.zeros(len(neutral), dtype=np.uint64), salt=_NEUTRAL_SALT), neutral


@lru_cache(maxsize=8)
def _character_cache(sizes: tuple[int, ...]) -> LexemeCache:
    """The n-grams of a word are the same for all models of a process: one that was just loaded knows them."""

    def compute(words: Sequence[str]) -> list[Hashes]:
        return character_ngrams(words, sizes=sizes, max_chars=MAX_WORD_CHARS, salt=_CHARACTER_SALT)

    return LexemeCache(compute, capacity=CACHED_WORDS)


@dataclass(frozen=True)
class _Frame:
    """Places for the words of a batch, with one more at either end of each text that has words.

    `words`, `starts` and `ends` say which of the places are what; those at `left` have a neighbour to their
    right in the text `owners`.
    """

    words: NDArray[np.bool_]
    starts: Ints
    ends: Ints
    left: Ints
    owners: Ints

    @classmethod
    def of(cls, lengths: Ints) -> "_Frame":
        """The frame of texts with so many words."""
        there = np.flatnonzero(lengths)
        ends = np.cumsum(lengths[there] + 2) - 1
        starts = ends - lengths[there] - 1
        words = np.ones(len(there) * 2 + int(lengths.sum()), dtype=bool)
        words[ends] = False
        left = np.flatnonzero(words)
        words[starts] = False
        return cls(words, starts, ends, left, owners=np.repeat(there, lengths[there] + 1))

    def neighbours(self, words: Hashes, *, salt: int | Hashes) -> Hashes:
        """Pairs of neighbouring words, with the beginning and the end of each text as words of their own.

        `words` may have several families of shape (families, words), each with its salt.
        """
        framed = np.empty((*words.shape[:-1], len(self.words)), dtype=np.uint64)
        framed[..., self.words] = words
        framed[..., self.starts] = _TEXT_START
        framed[..., self.ends] = _TEXT_END
        return combine(framed[..., self.left], framed[..., self.left + 1], salt=salt)


def _different_words(flat: Hashes, texts: Ints, lengths: Ints, *, limit: int) -> tuple[Hashes, Ints, Ints]:
    """The words of each text in some order, each once; their texts; and how many each text has.

    Of a text that has more than `limit` words, the first `limit` of them (repetitions included) count.
    """
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
    """A hash of the bag of words of each text; never 0."""
    sums = np.zeros(len(lengths), dtype=np.uint64)
    np.add.at(sums, texts, salted(flat, salt=_TEXT_SALT))
    return sums | np.uint64(1)
