"""Cache of computed vectors."""

import hashlib
from collections.abc import Callable, Sequence
from threading import Lock

from cachetools import LRUCache

from karen_learner.components.arrays import Floats


class VectorCache:
    """The `size` most recently used arrays, by digest of a text. Threads may share it.

    `hits` and `misses` count since the start.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.hits = 0
        self.misses = 0
        self._arrays: LRUCache[bytes, Floats] = LRUCache(size)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, keys: Sequence[str], compute: Callable[[list[int]], Sequence[Floats]]) -> list[Floats]:
        """The array of each key; read only. `compute` gets the positions of missing keys, each key once."""
        digests = [_digest(key) for key in keys]
        found = self._cached(digests)
        missing = {digest: place for place, digest in enumerate(digests) if digest not in found}
        if missing:
            computed = dict(zip(missing, compute(list(missing.values())), strict=True))
            self._add(computed)
            found.update(computed)
        return [found[digest] for digest in digests]

    def _cached(self, digests: Sequence[bytes]) -> dict[bytes, Floats]:
        with self._lock:
            found = {digest: self._arrays[digest] for digest in digests if digest in self._arrays}
            hits = sum(digest in found for digest in digests)
            self.hits += hits
            self.misses += len(digests) - hits
        return found

    def _add(self, computed: dict[bytes, Floats]) -> None:
        if self.size:  # LRUCache refuses a value larger than its size
            with self._lock:
                self._arrays.update(computed)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
