"""Words in Unicode form, so that composed, decomposed and full-width writings have the same features."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from spacy.strings import get_string_id
from spacy.tokens import Doc

from karen_learner.text_identity import unicode_form

WordOf = Callable[[int], str]
"""The word with a hash."""
_LONG_RUN = re.compile(r"(.)\1{4,}")
"""spaCy's shapes have at most four equal characters in a row."""


def word_lookup(docs: Sequence[Doc]) -> WordOf:
    """Gives the word of a hash, from the vocabularies of these documents."""
    stores: list[Any] = list({id(doc.vocab): doc.vocab.strings for doc in docs}.values())
    if len(stores) == 1:
        word_of: WordOf = stores[0].__getitem__
        return word_of
    return lambda word: next(store[word] for store in stores if word in store)


def word_form(word: str) -> str:
    """The Unicode form of a lower-case word; empty for white space that is not ASCII: it writes a space."""
    return word if word.isascii() else unicode_form(word).lower().strip()


def shape_form(shape: str) -> str:
    """The shape of the Unicode form of a word: marks have become parts of their letters."""
    bare = "".join(one for one in unicode_form(shape) if not unicodedata.category(one).startswith("M"))
    return _LONG_RUN.sub(lambda run: run[1] * 4, bare)


def in_unicode_form(texts: list[list[int]], word_of: WordOf) -> tuple[list[list[int]], WordOf]:
    """The words of texts in Unicode form, without empty ones, and the words of their hashes."""
    written = {word: word_of(word) for word in set(chain(*texts))}
    forms = {word: word_form(text) for word, text in written.items() if not text.isascii()}
    changed = {word: form for word, form in forms.items() if form != written[word]}
    if not changed:
        return texts, word_of
    hashes = {word: get_string_id(form) if form else 0 for word, form in changed.items()}
    words = {get_string_id(form): form for form in changed.values()}
    formed = [[one for word in text if (one := hashes.get(word, word))] for text in texts]
    return formed, lambda word: words[word] if word in words else word_of(word)


def token_forms(keys: Sequence[tuple[int, int]], word_of: WordOf) -> tuple[list[tuple[int, int]], list[str]]:
    """Hashes of lower form and shape of tokens in Unicode form, and the lower forms."""
    words = [word_of(lower) for lower, _ in keys]
    forms = [word if word.isascii() else unicode_form(word).lower() for word in words]
    found = [
        key if form == word else (get_string_id(form), get_string_id(shape_form(word_of(key[1]))))
        for key, word, form in zip(keys, words, forms, strict=True)
    ]
    return found, forms
