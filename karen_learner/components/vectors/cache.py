"""Vectors that were computed a short while ago."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from karen_learner.components.arrays import Floats


class VectorCache:
    """At most `size` arrays by the digest of a text; those used last are kept. Safe to share by threads.

    The texts themselves are not kept. `hits` and `misses` count since the cache was made.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.hits = 0
        self.misses = 0
        self._arrays: OrderedDict[bytes, Floats] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, keys: Sequence[str], compute: Callable[[list[int]], Sequence[Floats]]) -> list[Floats]:
        """The array of each key. `compute` is given the positions of those that are missing, each key once.

        Do not write into the arrays.
        """
        digests = [_digest(key) for key in keys]
        found = self._look_up(digests)
        missing = {digest: place for place, digest in enumerate(digests) if digest not in found}
        if missing:
            computed = dict(zip(missing, compute(list(missing.values())), strict=True))
            self._keep(computed)
            found.update(computed)
        return [found[digest] for digest in digests]

    def _look_up(self, digests: Sequence[bytes]) -> dict[bytes, Floats]:
        found = {}
        with self._lock:
            for digest in digests:
                if digest in self._arrays:
                    self._arrays.move_to_end(digest)
                    found[digest] = self._arrays[digest]
            hits = sum(digest in found for digest in digests)
            self.hits += hits
            self.misses += len(digests) - hits
        return found

    def _keep(self, computed: dict[bytes, Floats]) -> None:
        with self._lock:
            for digest, array in computed.items():
                self._arrays[digest] = array
                self._arrays.move_to_end(digest)
            while len(self._arrays) > self.size:
                self._arrays.popitem(last=False)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
