"""How frequent words are and what their lemmas are, from spacy-lookups-data.

The frequency tables hold a million words, which takes spaCy 6 s and 280 MB to load as a `Lookups`
(measured for English). They are sorted by falling probability, one word a line: reading the first
50,000 lines takes 0.1 s and 7 MB, and a word beyond those is rare in any conversation.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import IO

from spacy.strings import get_string_id
from spacy.util import registry

FREQUENT_WORDS = 50_000
"""Words beyond this rank count as as rare as the last one of it."""
RARE_RANK = 20_000
"""A word is rare if it is not among this many most frequent ones."""
COMMON_WORDS = 5_000

_DECODER = json.JSONDecoder()
_loading = Lock()
_loaded: dict[str, WordTables] = {}


@dataclass(frozen=True)
class WordTables:
    """Keys and lemmas are spaCy's hashes of lower-case words. Empty where a language has no table.

    `log_prob` are natural logarithms of unigram probabilities, `unknown` that of words not in it, and
    `rare_below` the bound under which a word is rare. `common` are the most frequent words as written.
    """

    log_prob: dict[int, float] = field(default_factory=dict)
    unknown: float = 0.0
    rare_below: float = 0.0
    lemmas: dict[int, int] = field(default_factory=dict)
    common: tuple[str, ...] = ()


def word_tables(language: str) -> WordTables:
    """The tables of a language, read once for the whole process. The first call blocks for 0.2 s."""
    tables = _loaded.get(language)
    if tables is None:
        with _loading:
            tables = _loaded.get(language) or _loaded.setdefault(language, _load(language))
    return tables


def common_words(language: str) -> tuple[str, ...]:
    """The 5,000 most frequent words of a language as they are written; none if it has no table."""
    return word_tables(language).common


def _load(language: str) -> WordTables:
    sources = registry.lookups.get(language) if language in registry.lookups else {}
    ranked = [
        (word, float(raw)) for word, raw in islice(_entries(sources.get("lexeme_prob")), FREQUENT_WORDS)
    ]
    if not ranked:
        return WordTables()
    log_prob: dict[int, float] = {}
    for word, value in ranked:
        # Sorted: the first casing of a word that comes up is the most frequent one.
        log_prob.setdefault(get_string_id(word.lower()), value)
    return WordTables(
        log_prob=log_prob,
        unknown=ranked[-1][1],
        rare_below=ranked[min(RARE_RANK, len(ranked) - 1)][1],
        lemmas=_read_lemmas(sources.get("lemma_lookup"), log_prob),
        common=tuple(word for word, _ in ranked if not word.isspace())[:COMMON_WORDS],
    )


def _read_lemmas(path: str | Path | None, frequent: dict[int, float]) -> dict[int, int]:
    """The lemmas of frequent words alone: some languages list half a million inflected forms."""
    lemmas: dict[int, int] = {}
    for word, raw in _entries(path):
        key = get_string_id(word.lower())
        if key in frequent:
            lemmas[key] = get_string_id(json.loads(raw).lower())
    return lemmas


def _entries(path: str | Path | None) -> Iterator[tuple[str, str]]:
    """Keys and raw JSON values of an indented JSON object, without reading more of it than is asked."""
    if path is None:
        return
    with _open(Path(path)) as lines:
        for line in lines:
            entry = line.strip().rstrip(",")
            if entry.startswith('"'):
                key, end = _DECODER.raw_decode(entry)
                yield key, entry[end:].lstrip(": ")


def _open(path: Path) -> IO[str]:
    """The packages register the name of the plain file also where they ship it compressed."""
    if path.is_file() and path.suffix != ".gz":
        return path.open(encoding="utf8")
    return gzip.open(path if path.suffix == ".gz" else f"{path}.gz", "rt", encoding="utf8")
