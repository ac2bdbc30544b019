"""The vocabulary of a pipeline that serves for a long time.

A memory zone frees its new words, but spaCy's hash tables keep the removed keys, and double when they are
full of them: 100 bytes for each analysed text. See https://github.com/explosion/spaCy/issues/13882.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from spacy.attrs import NORM
from spacy.language import Language

from karen_learner.components.lexical.lookups import word_tables

MAX_WORDS = 100_000
"""New words, of about 40,000 texts, until the tables are replaced. They have a few megabytes then."""
LARGE_PARTS = ("vectors", "lookups")


def replace_tables(nlp: Language) -> bool:
    """Replace the tables of words and strings by small ones, if they have had many words. Whether they had.

    Call it outside of a memory zone, on the thread of the pipeline. All strings outside of zones stay.
    Common signs and contractions get a lasting entry: the tokenizer splits them off other words, and would
    make them anew in each zone.
    """
    vocab = cast(Any, nlp.vocab)
    if len(vocab) < MAX_WORDS:  # counts all words since the tables were made, also removed ones
        return False
    norm = vocab.lex_attr_getters.get(NORM)
    vocab.from_bytes(vocab.to_bytes(exclude=LARGE_PARTS), exclude=LARGE_PARTS)
    if norm is not None:
        vocab.lex_attr_getters[NORM] = norm  # `from_bytes` wraps it once more
    for word in word_tables(nlp.lang).common:
        if not word.isalnum():
            vocab[word]
    return True


@contextmanager
def small_zone(nlp: Language) -> Iterator[None]:
    """A memory zone of which the removed words take bounded memory, see `replace_tables`."""
    replace_tables(nlp)
    with nlp.memory_zone():
        yield
