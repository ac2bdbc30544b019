"""How good or bad words and emoji sound, from the lexicon of VADER: people have rated 7,500 English words.

    Hutto, Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text,
    ICWSM 2014.

Of that package the lexicon alone is read: what follows from a word, and from one that stands beside it, is
learned. Other languages have none.
"""

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files

import numpy as np
from spacy.strings import get_string_id

from karen_learner.components.lexical.word_table import WordTable
from karen_learner.errors import ModelError

LANGUAGE = "en"
_MOST = 127


class WordPolarities(WordTable):
    """Tenths of a degree, below zero what sounds bad; the lexicon's words have from -39 to 34."""

    NAME = "polarity"
    KIND = np.int8


@lru_cache(maxsize=4)
def word_polarities(language: str) -> WordPolarities:
    """The table of a language, empty where there is none; read once for the whole process.

    Raises ModelError if the lexicon is not there or cannot be read.
    """
    if language != LANGUAGE:
        return WordPolarities()
    try:
        found = _read()
    except (ImportError, OSError, ValueError) as error:
        raise ModelError(
            f"the lexicon of vaderSentiment cannot be read ({type(error).__name__}: {error}). Install "
            "vaderSentiment again, or set word_polarities = false in the config of the model"
        ) from error
    return WordPolarities.of({get_string_id(word): tenths for word, tenths in found.items() if tenths})


def _read() -> dict[str, int]:
    """Tenths of a degree by lower-case word and by emoji."""
    found: dict[str, int] = {}
    for word, mean, *_ in _rows("vader_lexicon.txt"):
        if word == word.lower():
            found[word] = round(10 * float(mean))
        else:  # "SOB" is another word than "sob", which is the one that is meant more often
            found.setdefault(word.lower(), round(10 * float(mean)))
    for emoji, name, *_ in _rows("emoji_utf8_lexicon.txt"):
        # An emoji sounds as the words of its name do together.
        tenths = sum(found.get(word, 0) for word in name.lower().split())
        found.setdefault(emoji.lower(), max(-_MOST, min(_MOST, tenths)))
    return found


def _rows(name: str) -> Iterator[list[str]]:
    """The columns of a table that the package brings."""
    with files("vaderSentiment").joinpath(name).open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield line.rstrip("\n").split("\t")
