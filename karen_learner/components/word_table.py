"""Numbers that are known of words before anything is learned."""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Self
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.row_coding import require_names, require_shape

Hashes = NDArray[np.uint64]


class WordTable:
    """A number for each known lower-case word, by spaCy's hash of it; none by default.

    `words` ascend; `numbers` has the same shape. Subclasses say what the numbers mean.
    """

    NAME: ClassVar[str]
    KIND: ClassVar[type[np.integer[Any]]]

    def __init__(self, words: Hashes | None = None, numbers: NDArray[Any] | None = None) -> None:
        self.words = np.zeros(0, dtype=np.uint64) if words is None else words
        self.numbers = np.zeros(0, dtype=self.KIND) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.words)

    def look_up(self, words: Hashes) -> NDArray[Any]:
        """The number of each word, 0 where there is none."""
        if not len(self):
            return np.zeros(len(words), dtype=self.KIND)
        places = np.minimum(np.searchsorted(self.words, words), len(self) - 1)
        return np.where(self.words[places] == words, self.numbers[places], self.KIND(0))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The same as arrays; words are two halves of 32 bits."""
        return dict(zip(self._names(), (self.words.view(np.uint32), self.numbers), strict=True))

    @classmethod
    def _names(cls) -> tuple[str, str]:
        return f"{cls.NAME}_words", f"{cls.NAME}_numbers"

    @classmethod
    def of(cls, entries: Mapping[int, int]) -> Self:
        """The table with these numbers by the hashes of words."""
        words = np.fromiter(entries.keys(), dtype=np.uint64, count=len(entries))
        numbers = np.fromiter(entries.values(), dtype=cls.KIND, count=len(entries))
        order = np.argsort(words)
        return cls._shared(words[order], numbers[order])

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """What `arrays` has made; none if there are no such arrays. Raises ValueError if they are damaged."""
        names = cls._names()
        if arrays.keys().isdisjoint(names):
            return cls()
        require_names(arrays, *names)
        halves, numbers = (arrays[name] for name in names)
        require_shape(halves, (2 * numbers.size,), f"words of {cls.NAME} numbers")
        require_shape(numbers, (numbers.size,), f"{cls.NAME} numbers")
        if halves.dtype != np.uint32 or numbers.dtype != cls.KIND:
            raise ValueError(
                f"words and {cls.NAME} numbers are of {halves.dtype} and {numbers.dtype}: the file is damaged"
            )
        words = halves.view(np.uint64)
        if not (words[1:] > words[:-1]).all():
            raise ValueError(f"the words of {cls.NAME} numbers do not ascend: the file is damaged")
        return cls._shared(words, numbers)

    @classmethod
    def _shared(cls, words: Hashes, numbers: NDArray[Any]) -> Self:
        """Many pipes of many tenants have the same table: it is in memory once."""
        digest = hashlib.blake2b(words.tobytes() + numbers.tobytes(), digest_size=16).hexdigest()
        table: Self = _IN_USE.setdefault(f"{cls.NAME} {digest}", cls(words, numbers))
        return table


_IN_USE: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""The tables of all classes; a key begins with the name of the class."""
