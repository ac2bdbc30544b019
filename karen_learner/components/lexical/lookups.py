"""Tables of spacy-lookups-data with one entry a word. Those with numbers are sorted by falling frequency."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from spacy.util import registry


def lookup_entries(language: str, table: str) -> Iterator[tuple[str, str]]:
    """Words and their values, both as JSON. Nothing for a language without the table.

    Reads the lines on demand. As `Lookups` spaCy needs 6 s and 280 MB for a table of a million words.
    """
    sources = registry.lookups.get(language) if language in registry.lookups else {}
    if table not in sources:
        return
    with _open(Path(sources[table])) as lines:
        for line in lines:
            word, separator, value = line.strip().rstrip(",").rpartition('":')
            if separator:
                yield f'{word}"', value.strip()


def _open(path: Path) -> IO[str]:
    """The file, or its compressed form. The packages may register the plain name of a compressed file."""
    if path.is_file() and path.suffix != ".gz":
        return path.open(encoding="utf8")
    return gzip.open(path if path.suffix == ".gz" else f"{path}.gz", "rt", encoding="utf8")
