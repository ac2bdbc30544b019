"""Hashed features of words: what a word is made of, as numbers, computed once for each word.

Nothing here keeps a string: a word is spaCy's 64-bit hash of it, and what is cached for it are hashes.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

CACHED_WORDS = 8_000
"""So many words have their features kept in a process, by each way of reading them."""
WORD_START, WORD_END = "\x01", "\x02"
"""Characters that stand for the borders of a word; no text has them as letters."""
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


def combine(first: Hashes, second: Hashes, *, salt: int | Hashes) -> Hashes:
    """Hashes of ordered pairs, element by element. Another `salt`, another family of hashes; several of them
    are broadcast."""
    return mix((mix(first) * _MULTIPLIER + np.asarray(salt, dtype=np.uint64)) ^ second)


def combine_unordered(first: Hashes, second: Hashes, *, salt: int) -> Hashes:
    """Hashes of unordered pairs: (a, b) and (b, a) have the same."""
    return combine(np.minimum(first, second), np.maximum(first, second), salt=salt)


def salted(hashes: Hashes, *, salt: int | Hashes) -> Hashes:
    """The hashes as members of another family. Several salts are broadcast."""
    return mix(hashes + mix(np.array(salt, dtype=np.uint64, ndmin=1)))


def character_ngrams(
    words: Sequence[str], *, sizes: Sequence[int], max_chars: int, salt: int
) -> list[Hashes]:
    """Hashes of the character n-grams of each `<word>`, its borders included; shape (n-grams,) each.

    They are in the order of `sizes`. Of a word longer than `max_chars` only the beginning counts. Lone
    surrogates are code points like others.
    """
    bordered = [f"{WORD_START}{word[:max_chars]}{WORD_END}" for word in words]
    lengths = np.array([len(word) for word in bordered], dtype=np.int64)
    encoded = "".join(bordered).encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(encoded, dtype="<u4").astype(np.uint64)
    owners = np.repeat(np.arange(len(words)), lengths)
    to_the_end = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(points))
    starts = [np.flatnonzero(to_the_end >= size) for size in sizes]
    hashes = [_windows(points, at, size, salt=salt) for at, size in zip(starts, sizes, strict=True)]
    of_words = owners[np.concatenate(starts)]
    grouped = np.concatenate(hashes)[np.argsort(of_words, kind="stable")]
    ends = np.cumsum(np.bincount(of_words, minlength=len(words))).tolist()
    return [grouped[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _windows(points: Hashes, starts: NDArray[np.int64], size: int, *, salt: int) -> Hashes:
    hashes = np.full(len(starts), salt * 64 + size, dtype=np.uint64)
    for offset in range(size):
        hashes += points[starts + offset]
        hashes *= _MULTIPLIER
    return mix(hashes)


class LexemeCache:
    """The feature hashes of words, computed once for each and kept for at most `capacity` words.

    When it is full, the older half goes. `compute` gets the words that are missing. Threads may share it: at
    worst two of them compute the same.
    """

    def __init__(self, compute: Callable[[Sequence[str]], Sequence[Hashes]], *, capacity: int) -> None:
        self._compute = compute
        self._capacity = max(2, capacity)
        self._known: dict[int, Hashes] = {}

    def __len__(self) -> int:
        return len(self._known)

    def look_up(self, keys: Sequence[int], word_of: Callable[[int], str]) -> list[Hashes]:
        """The features of the words with these keys, in order."""
        found = [self._known.get(key) for key in keys]
        missing = {key: word_of(key) for key, features in zip(keys, found, strict=True) if features is None}
        new = self._add(missing) if missing else {}
        return [new[key] if features is None else features for key, features in zip(keys, found, strict=True)]

    def _add(self, missing: Mapping[int, str]) -> dict[int, Hashes]:
        new = dict(zip(missing, self._compute(list(missing.values())), strict=True))
        excess = len(self._known) + len(new) - self._capacity
        if excess > 0:
            for old in list(self._known)[: max(excess, self._capacity // 2)]:
                self._known.pop(old, None)
        self._known.update(islice(new.items(), self._capacity))
        return new
