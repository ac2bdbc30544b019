"""Hashed features of words: what a word is made of, as numbers, computed once for each word.

Nothing here keeps a string: a word is spaCy's 64-bit hash of it, and what is cached for it are hashes.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

CACHED_WORDS = 8_000
"""So many words have their features kept in a process, by each way of reading them."""
WORD_START, WORD_END = 1, 2
"""Code points that stand for the borders of a word; no text has them as letters."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_HALF = np.uint64(33)


def mix(hashes: Hashes) -> Hashes:
    """Spread the bits of each hash, so that any of them can serve as a bucket (finalizer of MurmurHash3)."""
    mixed = hashes ^ (hashes >> _HALF)
    mixed *= _MIX_1
    mixed ^= mixed >> _HALF
    mixed *= _MIX_2
    mixed ^= mixed >> _HALF
    return mixed


def combine(first: Hashes, second: Hashes, *, salt: int) -> Hashes:
    """Hashes of ordered pairs, element by element. Another `salt`, another family of hashes."""
    return mix((mix(first) * _MULTIPLIER + np.uint64(salt)) ^ second)


def combine_unordered(first: Hashes, second: Hashes, *, salt: int) -> Hashes:
    """Hashes of unordered pairs: (a, b) and (b, a) have the same."""
    return combine(np.minimum(first, second), np.maximum(first, second), salt=salt)


def salted(hashes: Hashes, *, salt: int) -> Hashes:
    """The hashes as members of another family."""
    return mix(hashes + mix(np.full(1, salt, dtype=np.uint64)))


def character_ngrams(word: str, *, sizes: Sequence[int], max_chars: int, salt: int) -> Hashes:
    """Hashes of the character n-grams of `<word>`, its borders included; shape (n-grams,).

    Of a word longer than `max_chars` only the beginning counts. Lone surrogates are code points like others.
    """
    points = np.array([WORD_START, *map(ord, word[:max_chars]), WORD_END], dtype=np.uint64)
    return np.concatenate([_windows(points, size, salt=salt) for size in sizes if size <= len(points)])


def _windows(points: Hashes, size: int, *, salt: int) -> Hashes:
    windows = len(points) - size + 1
    hashes = np.full(windows, salt * 64 + size, dtype=np.uint64)
    for offset in range(size):
        hashes = (hashes + points[offset : offset + windows]) * _MULTIPLIER
    return mix(hashes)


class LexemeCache:
    """The feature hashes of words, computed once for each and kept for at most `capacity` words.

    When it is full, the older half goes. `compute` gets the word. Threads may share it: at worst two of them
    compute the same.
    """

    def __init__(self, compute: Callable[[str], Hashes], *, capacity: int) -> None:
        self._compute = compute
        self._capacity = max(2, capacity)
        self._known: dict[int, Hashes] = {}

    def __len__(self) -> int:
        return len(self._known)

    def look_up(self, keys: Sequence[int], word_of: Callable[[int], str]) -> list[Hashes]:
        """The features of the words with these keys, in order."""
        return [self._features_of(key, word_of) for key in keys]

    def _features_of(self, key: int, word_of: Callable[[int], str]) -> Hashes:
        features = self._known.get(key)
        return self._add(key, word_of(key)) if features is None else features

    def _add(self, key: int, word: str) -> Hashes:
        if len(self._known) >= self._capacity:
            for old in list(self._known)[: self._capacity // 2]:
                self._known.pop(old, None)
        features = self._known[key] = self._compute(word)
        return features
