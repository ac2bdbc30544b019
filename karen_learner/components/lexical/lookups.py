"""Tables of spacy-lookups-data with one entry a word. Those with numbers are sorted by falling frequency."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, cast

import srsly
from spacy.strings import get_string_id
from spacy.util import registry

FREQUENT_WORDS = 50_000
"""Words beyond this rank get the probability of the word at this rank."""
RARE_RANK = 20_000
"""A word is rare beyond this rank."""
COMMON_WORDS = 5_000


def lookup_entries(language: str, table: str) -> Iterator[tuple[str, str]]:
    """Words and their values, both as JSON. Nothing for a language without the table.

    Reads the lines on demand. As `Lookups` spaCy needs 6 s and 280 MB for a table of a million words.
    """
    path = _path_of(language, table)
    if path is None:
        return
    with TextIOWrapper(_open(path), encoding="utf8") as lines:
        for line in lines:
            word, separator, value = line.strip().rstrip(",").rpartition('":')
            if separator:
                yield f'{word}"', value.strip()


def nonzero_numbers(language: str, table: str) -> dict[str, int]:
    """Words whose whole number is not 0, in the order of the table. Empty for a language without the table.

    Zeros are removed before the JSON is parsed. With them it takes three times as long.
    """
    path = _path_of(language, table)
    if path is None:
        return {}
    with _open(path) as file:
        lines = file.read().strip(b"{}\n").split(b"\n")
    lines[-1] += b","
    entries = b"".join(line for line in lines if not line.endswith(b":0,"))
    numbers: dict[str, int] = srsly.json_loads(b"{" + entries.rstrip(b",") + b"}")
    return numbers


def _path_of(language: str, table: str) -> Path | None:
    sources = registry.lookups.get(language) if language in registry.lookups else {}
    return Path(sources[table]) if table in sources else None


def _open(path: Path) -> IO[bytes]:
    """The file, or its compressed form. The packages may register the plain name of a compressed file."""
    if path.is_file() and path.suffix != ".gz":
        return path.open("rb")
    return cast(IO[bytes], gzip.open(path if path.suffix == ".gz" else f"{path}.gz"))


@dataclass(frozen=True)
class WordTables:
    """Frequencies and lemmas of the frequent words of a language. Empty for a language without tables.

    Keys and lemmas are spaCy's hashes of lower-case words. `log_prob` holds natural logarithms of unigram
    probabilities, `unknown` is that of other words. A word below `rare_below` is rare. `common` are the most
    frequent words as written.
    """

    log_prob: dict[int, float] = field(default_factory=dict)
    unknown: float = 0.0
    rare_below: float = 0.0
    lemmas: dict[int, int] = field(default_factory=dict)
    common: tuple[str, ...] = ()


@cache
def word_tables(language: str) -> WordTables:
    """The tables of a language. The first call blocks for 0.2 s."""
    entries = islice(lookup_entries(language, "lexeme_prob"), FREQUENT_WORDS)
    ranked = [(json.loads(word), float(value)) for word, value in entries]
    if not ranked:
        return WordTables()
    # Of several spellings of a word, the most frequent one counts.
    log_prob = {get_string_id(word.lower()): value for word, value in reversed(ranked)}
    lemmas = {
        word: get_string_id(json.loads(lemma).lower())
        for form, lemma in lookup_entries(language, "lemma_lookup")
        if (word := get_string_id(json.loads(form).lower())) in log_prob
    }
    return WordTables(
        log_prob,
        unknown=ranked[-1][1],
        rare_below=ranked[min(RARE_RANK, len(ranked) - 1)][1],
        lemmas=lemmas,
        common=tuple(word for word, _ in ranked if not word.isspace())[:COMMON_WORDS],
    )
