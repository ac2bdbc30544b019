"""Polarities of English words and emoji from VADER's lexicon of 7,500 rated words.

    Hutto, Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text,
    ICWSM 2014.

Only the lexicon of that package is used, not its rules. Other languages have no polarities.
"""

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files

import numpy as np
from spacy.strings import get_string_id

from karen_learner.components.lexical.words import WordTable
from karen_learner.errors import ModelError

LANGUAGE = "en"
_MAX_TENTHS = 127


class WordPolarities(WordTable):
    """Tenths of a degree, negative for bad words. Words range from -39 to 34."""

    NAME = "polarity"
    DTYPE = np.int8


@lru_cache(maxsize=4)
def word_polarities(language: str) -> WordPolarities:
    """The table of a language, empty if it has none. A process reads it once.

    Raises ModelError if the lexicon is missing or cannot be read.
    """
    if language != LANGUAGE:
        return WordPolarities()
    try:
        entries = _read()
    except (ImportError, OSError, ValueError) as error:
        raise ModelError(
            f"the lexicon of vaderSentiment cannot be read ({type(error).__name__}: {error}). Install "
            "vaderSentiment again, or set word_polarities = false in the config of the model"
        ) from error
    return WordPolarities.from_entries(
        {get_string_id(word): tenths for word, tenths in entries.items() if tenths}
    )


def _read() -> dict[str, int]:
    """Tenths of a degree by lower-case word and by emoji."""
    entries: dict[str, int] = {}
    for word, mean, *_ in _rows("vader_lexicon.txt"):
        if word == word.lower():
            entries[word] = round(10 * float(mean))
        else:  # the lower-case entry wins: "SOB" and "sob" are two entries
            entries.setdefault(word.lower(), round(10 * float(mean)))
    for emoji, name, *_ in _rows("emoji_utf8_lexicon.txt"):
        tenths = sum(entries.get(word, 0) for word in name.lower().split())  # an emoji has only a name
        entries.setdefault(emoji.lower(), max(-_MAX_TENTHS, min(_MAX_TENTHS, tenths)))
    return entries


def _rows(name: str) -> Iterator[list[str]]:
    """Columns of a table of the package."""
    with files("vaderSentiment").joinpath(name).open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield line.rstrip("\n").split("\t")
