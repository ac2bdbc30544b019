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

from karen_learner.components.word_table import WordTable

LANGUAGE = "en"
_MOST = 127


class WordPolarities(WordTable):
    """Tenths of a degree, below zero what sounds bad; the lexicon's words have from -39 to 34."""

    NAME = "polarity"
    KIND = np.int8


@lru_cache(maxsize=4)
def word_polarities(language: str) -> WordPolarities:
    """The table of a language, empty where there is none; read once for the whole process."""
    found: dict[str, int] = {}
    if language == LANGUAGE:
        for word, mean, *_ in _rows("vader_lexicon.txt"):
            found.setdefault(word.lower(), round(10 * float(mean)))
        for emoji, name, *_ in _rows("emoji_utf8_lexicon.txt"):
            # An emoji is what its name says, as in VADER itself.
            tenths = sum(found.get(word, 0) for word in name.lower().split())
            found.setdefault(emoji.lower(), max(-_MOST, min(_MOST, tenths)))
    return WordPolarities.of({get_string_id(word): tenths for word, tenths in found.items() if tenths})


def _rows(name: str) -> Iterator[list[str]]:
    """The columns of a table that the package brings."""
    with files("vaderSentiment").joinpath(name).open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield line.rstrip("\n").split("\t")
