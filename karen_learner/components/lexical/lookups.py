"""Tables of spacy-lookups-data with one number a word, sorted by falling frequency."""

import gzip
import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO

from spacy.util import registry

COMMON_WORDS = 5_000


def lookup_entries(language: str, table: str) -> Iterator[tuple[str, str]]:
    """Words as JSON strings, and their numbers as text. Nothing for a language without the table.

    Reads the lines on demand. As `Lookups` spaCy needs 6 s and 280 MB for a table of a million words.
    """
    sources = registry.lookups.get(language) if language in registry.lookups else {}
    if table not in sources:
        return
    with _open(Path(sources[table])) as lines:
        for line in lines:
            word, colon, number = line.strip().rstrip(",").rpartition(":")
            if colon:
                yield word, number.strip()


@cache
def common_words(language: str) -> tuple[str, ...]:
    """The 5,000 most frequent words of a language as written; none without a table."""
    words = (json.loads(word) for word, _ in lookup_entries(language, "lexeme_prob"))
    return tuple(islice((word for word in words if not word.isspace()), COMMON_WORDS))


def _open(path: Path) -> IO[str]:
    """The file, or its compressed form. The packages may register the plain name of a compressed file."""
    if path.is_file() and path.suffix != ".gz":
        return path.open(encoding="utf8")
    return gzip.open(path if path.suffix == ".gz" else f"{path}.gz", "rt", encoding="utf8")
