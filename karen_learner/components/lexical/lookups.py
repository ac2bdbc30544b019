"""Tables of spacy-lookups-data with one entry a word. Those with numbers are sorted by falling frequency."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import srsly
from spacy.strings import get_string_id
from spacy.util import registry

FREQUENT_WORDS = 50_000
"""Words beyond this rank get the probability of the word at this rank."""
RARE_RANK = 20_000
"""A word is rare beyond this rank."""
COMMON_WORDS = 5_000


def first_entries(language: str, table: str, count: int | None = None) -> dict[str, Any]:
    """The first words of a table, or all, and their values. Empty for a language without the table.

    The later lines are not read. As `Lookups` spaCy needs 6 s and 280 MB for a table of a million words.
    """
    path = _path_of(language, table)
    if path is None:
        return {}
    with _open(path) as file:
        lines = islice(file, None if count is None else 1 + count)
        entries = b"".join(lines).strip().strip(b"{},\n")
    found: dict[str, Any] = json.loads(b"{" + entries + b"}")
    return found


def nonzero_numbers(language: str, table: str) -> dict[str, int]:
    """Words whose whole number is not 0, in the order of the table. Empty for a language without the table.

    Zeros are removed before the JSON is parsed. With them it takes three times as long.
    """
    path = _path_of(language, table)
    if path is None:
        return {}
    with _open(path) as file:
        text = file.read().strip(b"{}\n") + b",\n"
    characters = np.frombuffer(text, dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))  # each line ends with a comma
    is_zero = (characters[ends - 2] == ord("0")) & (characters[ends - 3] == ord(":"))
    kept = characters[np.repeat(~is_zero, np.diff(ends, prepend=-1))]
    numbers: dict[str, int] = srsly.json_loads(b"{" + kept.tobytes().rstrip(b",\n") + b"}")
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
    ranked = list(first_entries(language, "lexeme_prob", FREQUENT_WORDS).items())
    if not ranked:
        return WordTables()
    # Of several spellings of a word, the most frequent one counts.
    log_prob = {get_string_id(word.lower()): value for word, value in reversed(ranked)}
    lemmas = {
        word: get_string_id(lemma.lower())
        for form, lemma in first_entries(language, "lemma_lookup").items()
        if (word := get_string_id(form.lower())) in log_prob
    }
    return WordTables(
        log_prob,
        unknown=ranked[-1][1],
        rare_below=ranked[min(RARE_RANK, len(ranked) - 1)][1],
        lemmas=lemmas,
        common=tuple(word for word, _ in ranked if not word.isspace())[:COMMON_WORDS],
    )
