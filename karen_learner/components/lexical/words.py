"""Word hashes: hash families, character n-grams, a cache of features, and tables of one number a word.

A word is spaCy's 64-bit hash of it. Caches and tables store no strings.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields
from itertools import accumulate, chain
from typing import Any, ClassVar, Generic, Self, TypeVar, cast
from weakref import WeakValueDictionary

import numpy as np
from spacy.strings import get_string_id
from spacy.tokens import Doc

from karen_learner.components.arrays import AnyArray, Arrays, Hashes, Ints, require_names, require_shape
from karen_learner.text_identity import unicode_form

WordOf = Callable[[int], str]
"""The word with a hash."""
_LONG_RUN = re.compile(r"(.)\1{4,}")
"""spaCy's shapes have at most four equal characters in a row."""
CACHED_WORDS = 8_000
"""Capacity of each cache of word features in a process."""
CACHED_FEATURES = 250_000
"""Capacity of a cache of text features, about a thousand short texts in 1 to 3 MB."""
KeyT = TypeVar("KeyT", bound=Hashable)
FeaturesT = TypeVar("FeaturesT")
WORD_START, WORD_END = "\x01", "\x02"
"""Border characters of a word. They are no letters."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_HALF = np.uint64(33)


def word_lookup(docs: Sequence[Doc]) -> WordOf:
    """Gives the word of a hash, from the vocabularies of these documents."""
    stores: list[Any] = list({id(doc.vocab): doc.vocab.strings for doc in docs}.values())
    if len(stores) == 1:
        word_of: WordOf = stores[0].__getitem__
        return word_of
    return lambda word: next(store[word] for store in stores if word in store)


def word_form(word: str) -> str:
    """The Unicode form of a lower-case word; empty for white space that is not ASCII: it writes a space."""
    return word if word.isascii() else unicode_form(word).lower().strip()


def shape_form(shape: str) -> str:
    """The shape of the Unicode form of a word: marks have become parts of their letters."""
    bare = "".join(one for one in unicode_form(shape) if not unicodedata.category(one).startswith("M"))
    return _LONG_RUN.sub(lambda run: run[1] * 4, bare)


def in_unicode_form(texts: list[list[int]], word_of: WordOf) -> tuple[list[list[int]], WordOf]:
    """The words of texts in Unicode form, without empty ones, and the words of their hashes."""
    written = {word: word_of(word) for word in set(chain(*texts))}
    forms = {word: word_form(text) for word, text in written.items() if not text.isascii()}
    changed = {word: form for word, form in forms.items() if form != written[word]}
    if not changed:
        return texts, word_of
    hashes = {word: get_string_id(form) if form else 0 for word, form in changed.items()}
    words = {get_string_id(form): form for form in changed.values()}
    formed = [[one for word in text if (one := hashes.get(word, word))] for text in texts]
    return formed, lambda word: words[word] if word in words else word_of(word)


def token_forms(keys: Sequence[tuple[int, int]], word_of: WordOf) -> tuple[list[tuple[int, int]], list[str]]:
    """Hashes of lower form and shape of tokens in Unicode form, and the lower forms."""
    words = [word_of(lower) for lower, _ in keys]
    forms = [word if word.isascii() else unicode_form(word).lower() for word in words]
    found = [
        key if form == word else (get_string_id(form), get_string_id(shape_form(word_of(key[1]))))
        for key, word, form in zip(keys, words, forms, strict=True)
    ]
    return found, forms


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
    return mix(first_of_pair(first, salt=salt) ^ second)


def first_of_pair(first: Hashes, *, salt: int | Hashes) -> Hashes:
    """The part of `combine` that depends only on the first hash: `mix(first_of_pair(a) ^ b)` is the pair."""
    return mix(first) * _MULTIPLIER + np.asarray(salt, dtype=np.uint64)


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


class FeatureCache(Generic[KeyT, FeaturesT]):
    """Features of words or texts by key. Their sizes have at most the sum `capacity`; a size is 1 by default.

    A full cache evicts its older half. Threads may share it; at worst two of them compute the same features.
    It is a plain dict: `cachetools.LRUCache` takes ten times as long for each key (1.1 instead of 0.1 us).
    """

    def __init__(self, *, capacity: int, size_of: Callable[[FeaturesT], int] = lambda _: 1) -> None:
        self.capacity = max(2, capacity)
        self._size_of = size_of
        self._cached: dict[KeyT, FeaturesT] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._cached)

    def get(
        self, keys: Sequence[KeyT], compute: Callable[[Sequence[KeyT]], Sequence[FeaturesT]]
    ) -> list[FeaturesT]:
        """Features of the keys, in order. `compute` gets each missing key once."""
        try:
            return [self._cached[key] for key in keys]
        except KeyError:
            found = {key: self._cached.get(key) for key in keys}
        missing = [key for key, features in found.items() if features is None]
        new = dict(zip(missing, compute(missing), strict=True))
        self._add(new)
        found.update(new)
        return [found[key] for key in keys]  # type: ignore[misc]

    def _add(self, new: dict[KeyT, FeaturesT]) -> None:
        for key, features in new.items():
            size = self._size_of(features)
            if size > self.capacity // 2:
                continue
            if self.size + size > self.capacity:
                self._evict()
            self._cached[key] = features
            self.size += size

    def _evict(self) -> None:
        """Remove the oldest entries of more than half the capacity."""
        left = sum(map(self._size_of, list(self._cached.values())))
        for key in list(self._cached):
            if left <= self.capacity // 2:
                break
            if (features := self._cached.pop(key, None)) is not None:
                left -= self._size_of(features)
        self.size = left


class WithoutCaches:
    """A dataclass that is pickled and copied without its cached properties."""

    def __getstate__(self) -> dict[str, Any]:
        names = [field.name for field in fields(cast(Any, self))]
        return {name: self.__dict__[name] for name in names}


_cached_features = CACHED_FEATURES


def cached_features() -> int:
    """Capacity of a new cache of text features."""
    return _cached_features


def remember_texts(features: int) -> None:
    """Set the capacity of later caches of text features. A training repeats its texts."""
    global _cached_features
    _cached_features = features


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

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Hashes, AnyArray]]:
        """Pickles give one table in memory, too."""
        return self._shared, (self.words, self.values)

    def __eq__(self, other: object) -> bool:
        """Empty tables are equal; other tables are, if they are the same object (see `_shared`)."""
        if not isinstance(other, WordTable):
            return NotImplemented
        return self is other or (self.NAME == other.NAME and not len(self) and not len(other))

    def __hash__(self) -> int:
        return hash((self.NAME, len(self)))

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


def slices(array: AnyArray, sizes: Sequence[int]) -> list[AnyArray]:
    """Consecutive parts of the array with these sizes."""
    ends = list(accumulate(sizes))
    return [array[start:end] for start, end in zip([0, *ends], ends, strict=False)]
