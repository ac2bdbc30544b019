"""Brown clusters of words from spacy-lookups-data: words used alike have paths that begin alike.

    Brown et al.: Class-Based n-gram Models of Natural Language, Computational Linguistics 18 (1992).

Of the languages that spaCy knows, English alone has such a table. The path begins with the lowest bit.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from spacy.strings import get_string_id
from spacy.util import registry

from karen_learner.components.row_coding import require_names, require_shape

Hashes = NDArray[np.uint64]
Paths = NDArray[np.uint32]
_DECODER = json.JSONDecoder()


class WordClusters:
    """The path of each known lower-case word, by spaCy's hash of it; 1.2 MB for English, none by default.

    `words` ascend; `paths` has the same shape.
    """

    NAMES = ("cluster_words", "cluster_paths")

    def __init__(self, words: Hashes | None = None, paths: Paths | None = None) -> None:
        self.words = np.zeros(0, dtype=np.uint64) if words is None else words
        self.paths = np.zeros(0, dtype=np.uint32) if paths is None else paths

    def __len__(self) -> int:
        return len(self.words)

    def look_up(self, words: Hashes) -> Hashes:
        """The path of each word, 0 where there is none."""
        if not len(self):
            return np.zeros(len(words), dtype=np.uint64)
        places = np.minimum(np.searchsorted(self.words, words), len(self) - 1)
        return np.where(self.words[places] == words, self.paths[places], 0).astype(np.uint64)

    def arrays(self) -> dict[str, Paths]:
        """The same as arrays of 32 bits."""
        return dict(zip(self.NAMES, (self.words.view(np.uint32), self.paths), strict=True))

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.uint32]]) -> "WordClusters":
        """What `arrays` has made; none if there are no such arrays. Raises ValueError if they are damaged."""
        if arrays.keys().isdisjoint(cls.NAMES):
            return cls()
        require_names(arrays, *cls.NAMES)
        halves, paths = (arrays[name] for name in cls.NAMES)
        require_shape(halves, (2 * paths.size,), "words of clusters")
        require_shape(paths, (paths.size,), "paths of clusters")
        if halves.dtype != np.uint32 or paths.dtype != np.uint32:
            raise ValueError(f"word clusters are of {halves.dtype} and {paths.dtype}: the file is damaged")
        words = halves.view(np.uint64)
        if not (words[1:] > words[:-1]).all():
            raise ValueError("the words of clusters do not ascend: the file is damaged")
        return _shared(words, paths)


_IN_USE: WeakValueDictionary[bytes, WordClusters] = WeakValueDictionary()


def _shared(words: Hashes, paths: Paths) -> WordClusters:
    """Many pipes of many tenants have the same table: it is in memory once."""
    digest = hashlib.blake2b(words.tobytes() + paths.tobytes(), digest_size=16).digest()
    return _IN_USE.setdefault(digest, WordClusters(words, paths))


@lru_cache(maxsize=4)
def word_clusters(language: str) -> WordClusters:
    """The table of a language, empty where there is none; read once for the whole process."""
    sources = registry.lookups.get(language) if language in registry.lookups else {}
    found: dict[int, int] = {}
    for word, path in _entries(sources.get("lexeme_cluster")):
        # Sorted by frequency: the first casing of a word that has a cluster is the most frequent one.
        found.setdefault(get_string_id(word.lower()), path)
    words = np.fromiter(found.keys(), dtype=np.uint64, count=len(found))
    paths = np.fromiter(found.values(), dtype=np.uint32, count=len(found))
    order = np.argsort(words)
    return _shared(words[order], paths[order])


def _entries(path: str | Path | None) -> Iterator[tuple[str, int]]:
    """Words and paths of an indented JSON object, without those that have none."""
    if path is None:
        return
    with _open(Path(path)) as lines:
        for line in lines:
            entry = line.strip().rstrip(",")
            if entry.startswith('"') and not entry.endswith(":0"):
                word, end = _DECODER.raw_decode(entry)
                yield word, int(entry[end:].lstrip(": "))


def _open(path: Path) -> IO[str]:
    """The packages register the name of the plain file also where they ship it compressed."""
    if path.is_file() and path.suffix != ".gz":
        return path.open(encoding="utf8")
    return gzip.open(path if path.suffix == ".gz" else f"{path}.gz", "rt", encoding="utf8")
