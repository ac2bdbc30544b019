"""Brown clusters of words from spacy-lookups-data. Paths of similar words share their lowest bits.

    Brown et al.: Class-Based n-gram Models of Natural Language, Computational Linguistics 18 (1992).

Of spaCy's languages only English has such a table.
"""

import gzip
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from spacy.strings import get_string_id
from spacy.util import registry

from karen_learner.components.lexical.words import WordTable

_DECODER = json.JSONDecoder()


class WordClusters(WordTable):
    """The path of each word's cluster; 1.2 MB for English."""

    NAME = "cluster"
    DTYPE = np.uint32


@lru_cache(maxsize=4)
def word_clusters(language: str) -> WordClusters:
    """The table of a language, empty if it has none. A process reads it once."""
    sources = registry.lookups.get(language) if language in registry.lookups else {}
    paths: dict[int, int] = {}
    for word, path in _entries(sources.get("lexeme_cluster")):
        # The entries are sorted by frequency: the first casing of a word is the most frequent one.
        paths.setdefault(get_string_id(word.lower()), path)
    return WordClusters.from_entries(paths)


def _entries(path: str | Path | None) -> Iterator[tuple[str, int]]:
    """Words and paths of an indented JSON object, without words that have none."""
    if path is None:
        return
    with _open(Path(path)) as lines:
        for line in lines:
            entry = line.strip().rstrip(",")
            if entry.startswith('"') and not entry.endswith(":0"):
                word, end = _DECODER.raw_decode(entry)
                yield word, int(entry[end:].lstrip(": "))


def _open(path: Path) -> IO[str]:
    """The file, or its compressed form. The packages may register the plain name of a compressed file."""
    if path.is_file() and path.suffix != ".gz":
        return path.open(encoding="utf8")
    return gzip.open(path if path.suffix == ".gz" else f"{path}.gz", "rt", encoding="utf8")
