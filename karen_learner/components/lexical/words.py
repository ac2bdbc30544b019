"""Word hashes: hash families, character n-grams, a cache of n-grams, and tables of one number a word.

A word is spaCy's 64-bit hash of it. Caches and tables store no strings.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Self
from weakref import WeakValueDictionary

import numpy as np

from karen_learner.components.arrays import AnyArray, Arrays, Hashes, Ints, require_names, require_shape

CACHED_WORDS = 8_000
"""Capacity of each cache of word features in a process."""
WORD_START, WORD_END = "\x01", "\x02"
"""Border characters of a word. They are no letters."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_HALF = np.uint64(33)


def mix(hashes: Hashes) -> Hashes:
    """Hashes with mixed bits, so that the top bits can number a bucket (finalizer of MurmurHash3)."""
    mixed = hashes ^ (hashes >> _HALF)
    mixed *= _MIX_1
    mixed ^= mixed >> _HALF
    mixed *= _MIX_2
    mixed ^= mixed >> _HALF
    return mixed


def combine(first: Hashes, second: Hashes, *, salt: int | Hashes) -> Hashes:
    """Hashes of ordered pairs. Each salt makes a family of hashes; an array of salts is broadcast."""
    return mix((mix(first) * _MULTIPLIER + np.asarray(salt, dtype=np.uint64)) ^ second)


def combine_unordered(first: Hashes, second: Hashes, *, salt: int) -> Hashes:
    """Hashes of unordered pairs: the same for (a, b) and (b, a)."""
    return combine(np.minimum(first, second), np.maximum(first, second), salt=salt)


def salted(hashes: Hashes, *, salt: int | Hashes) -> Hashes:
    """The hashes in another family. An array of salts is broadcast."""
    return mix(hashes + mix(np.array(salt, dtype=np.uint64, ndmin=1)))


def character_ngrams(
    words: Sequence[str], *, sizes: Sequence[int], max_chars: int, salt: int
) -> list[Hashes]:
    """Hashes of the character n-grams of each word with its borders; one array (n-grams,) a word.

    They are ordered by `sizes`. Only the first `max_chars` characters are used. Lone surrogates are allowed.
    """
    bordered = [f"{WORD_START}{word[:max_chars]}{WORD_END}" for word in words]
    lengths = np.array([len(word) for word in bordered], dtype=np.int64)
    encoded = "".join(bordered).encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(encoded, dtype="<u4").astype(np.uint64)
    owners = np.repeat(np.arange(len(words)), lengths)
    remaining = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(points))
    starts = [np.flatnonzero(remaining >= size) for size in sizes]
    hashes = [_windows(points, at, size, salt=salt) for at, size in zip(starts, sizes, strict=True)]
    ngram_owners = owners[np.concatenate(starts)]
    grouped = np.concatenate(hashes)[np.argsort(ngram_owners, kind="stable")]
    ends = np.cumsum(np.bincount(ngram_owners, minlength=len(words))).tolist()
    return [grouped[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _windows(points: Hashes, starts: Ints, size: int, *, salt: int) -> Hashes:
    hashes = np.full(len(starts), salt * 64 + size, dtype=np.uint64)
    for offset in range(size):
        hashes += points[starts + offset]
        hashes *= _MULTIPLIER
    return mix(hashes)


class LexemeCache:
    """Feature hashes of at most `capacity` words. `compute` gets the missing words.

    A full cache evicts its older half. Threads may share it; at worst two of them compute the same word.
    It is a plain dict: `cachetools.LRUCache` takes ten times as long for each word (1.1 instead of 0.1 us).
    """

    def __init__(self, compute: Callable[[Sequence[str]], Sequence[Hashes]], *, capacity: int) -> None:
        self._compute = compute
        self._capacity = max(2, capacity)
        self._cached: dict[int, Hashes] = {}

    def __len__(self) -> int:
        return len(self._cached)

    def get(self, keys: Sequence[int], word_of: Callable[[int], str]) -> list[Hashes]:
        """Features of the words with these keys, in order."""
        found = [self._cached.get(key) for key in keys]
        missing = {key: word_of(key) for key, features in zip(keys, found, strict=True) if features is None}
        new = self._add(missing) if missing else {}
        return [new[key] if features is None else features for key, features in zip(keys, found, strict=True)]

    def _add(self, missing: Mapping[int, str]) -> dict[int, Hashes]:
        new = dict(zip(missing, self._compute(list(missing.values())), strict=True))
        excess = len(self._cached) + len(new) - self._capacity
        if excess > 0:
            for key in list(self._cached)[: max(excess, self._capacity // 2)]:
                self._cached.pop(key, None)
        self._cached.update(islice(new.items(), self._capacity))
        return new


class WordTable:
    """A number for each known lower-case word, by its hash. Empty by default.

    `words` ascend; `values` has the same shape. Subclasses define the meaning of the values.
    """

    NAME: ClassVar[str]
    DTYPE: ClassVar[type[np.integer[Any]]]

    def __init__(self, words: Hashes | None = None, values: AnyArray | None = None) -> None:
        self.words = np.zeros(0, dtype=np.uint64) if words is None else words
        self.values = np.zeros(0, dtype=self.DTYPE) if values is None else values

    def __len__(self) -> int:
        return len(self.words)

    def values_of(self, words: Hashes) -> AnyArray:
        """The value of each word, 0 for unknown words."""
        if not len(self):
            return np.zeros(len(words), dtype=self.DTYPE)
        places = np.minimum(np.searchsorted(self.words, words), len(self) - 1)
        return np.where(self.words[places] == words, self.values[places], self.DTYPE(0))

    def arrays(self) -> Arrays:
        """The table as arrays. A word is two halves of 32 bits."""
        return {f"{self.NAME}_words": self.words.view(np.uint32), f"{self.NAME}_numbers": self.values}

    @classmethod
    def from_entries(cls, entries: Mapping[int, int]) -> Self:
        """The table with these values by word hash."""
        words = np.fromiter(entries.keys(), dtype=np.uint64, count=len(entries))
        values = np.fromiter(entries.values(), dtype=cls.DTYPE, count=len(entries))
        order = np.argsort(words)
        return cls._shared(words[order], values[order])

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The table of `arrays`, empty if they are absent. Raises ValueError for damage."""
        names = f"{cls.NAME}_words", f"{cls.NAME}_numbers"
        if arrays.keys().isdisjoint(names):
            return cls()
        require_names(arrays, *names)
        halves, values = (arrays[name] for name in names)
        require_shape(halves, (2 * values.size,), f"words of {cls.NAME} numbers")
        require_shape(values, (values.size,), f"{cls.NAME} numbers")
        if halves.dtype != np.uint32 or values.dtype != cls.DTYPE:
            raise ValueError(
                f"words and {cls.NAME} numbers have the types {halves.dtype} and {values.dtype}: "
                "the file is damaged"
            )
        words = halves.view(np.uint64)
        if not (words[1:] > words[:-1]).all():
            raise ValueError(f"the words of {cls.NAME} numbers do not ascend: the file is damaged")
        return cls._shared(words, values)

    @classmethod
    def _shared(cls, words: Hashes, values: AnyArray) -> Self:
        """One table in memory for all pipes with equal tables."""
        digest = hashlib.blake2b(words.tobytes() + values.tobytes(), digest_size=16).hexdigest()
        table: Self = _SHARED_TABLES.setdefault(f"{cls.NAME} {digest}", cls(words, values))
        return table


_SHARED_TABLES: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""The tables of all subclasses, by name and digest."""
