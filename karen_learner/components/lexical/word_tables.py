"""Frequencies and lemmas of words, from spacy-lookups-data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from itertools import islice

from spacy.strings import get_string_id

from karen_learner.components.lexical.lookups import lookup_entries

FREQUENT_WORDS = 50_000
"""Words beyond this rank get the probability of the word at this rank."""
RARE_RANK = 20_000
"""A word is rare beyond this rank."""
COMMON_WORDS = 5_000


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
