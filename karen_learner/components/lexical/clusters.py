"""Brown clusters of words from spacy-lookups-data. Paths of similar words share their lowest bits.

    Brown et al.: Class-Based n-gram Models of Natural Language, Computational Linguistics 18 (1992).

Of spaCy's languages only English has such a table.
"""

from functools import lru_cache

import numpy as np
from spacy.strings import get_string_id

from karen_learner.components.lexical.lookups import nonzero_numbers
from karen_learner.components.lexical.words import WordTable


class WordClusters(WordTable):
    """The path of each word's cluster; 1.2 MB for English."""

    NAME = "cluster"
    DTYPE = np.uint32


@lru_cache(maxsize=4)
def word_clusters(language: str) -> WordClusters:
    """The table of a language, empty if it has none. A process reads it once."""
    paths: dict[str, int] = {}
    for word, path in nonzero_numbers(language, "lexeme_cluster").items():
        # The entries are sorted by frequency: the first casing of a word is the most frequent one.
        paths.setdefault(word.lower(), path)
    return WordClusters.from_entries({get_string_id(word): path for word, path in paths.items()})
