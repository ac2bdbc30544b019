"""Documents of texts: tokenized in Unicode form, in bounded time and memory.

The tokens of composed, decomposed and full-width writings of a text correspond. Otherwise spaCy's rules miss
the end of a decomposed word. The text of a document is the original one.

spaCy's tokenizer strips the signs around a word one by one, and searches the rest each time. So 6,000 signs
without white space take 7 s, in which no other thread of the process runs.

A memory zone frees its new words. But spaCy's hash tables keep the removed keys, and double when they are
full of them. These are 100 bytes for each analysed text. See https://github.com/explosion/spaCy/issues/13882.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, cast
from unicodedata import category

from spacy.attrs import NORM
from spacy.language import Language
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc

from karen_learner.components.lexical.lookups import word_tables
from karen_learner.text_identity import INVISIBLE, unicode_form

LONGEST_STRETCH = 250
"""Characters without white space that the tokenizer gets at a time; it needs up to 20 ms for them."""
LONGEST_SIGNS = 50
"""Signs in a row that the tokenizer gets at a time; it needs about 1 ms for them."""
PIECE_CHARS = 1_000
"""Texts with a long stretch, or with 16 signs in a row, are tokenized in pieces of about this length. Other
threads run between them."""
_STRETCH = re.compile(rf"(?:[^\w\s]|_){{16}}|\S{{{LONGEST_SIGNS}}}")
_UNITS = re.compile(
    rf"\S{{0,{LONGEST_STRETCH - LONGEST_SIGNS}}}?(?:[^\w\s]|_){{{LONGEST_SIGNS}}}"
    rf"|\S{{1,{LONGEST_STRETCH}}}|\s+"
)
MAX_WORDS = 100_000
"""New words, of about 40,000 texts, until the tables are replaced. They have a few megabytes then."""
LARGE_PARTS = ("vectors", "lookups")


def make_doc(nlp: Language, text: str) -> Doc:
    """The document of a text with the tokens of its Unicode form, cut in long rows of signs and stretches.

    For most texts it is that of `nlp.make_doc`, and always for tokenizers of other classes than spaCy's.
    Raises ValueError for a text that spaCy refuses.
    """
    if len(text) > nlp.max_length or not isinstance(nlp.tokenizer, Tokenizer):
        return nlp.make_doc(text)
    form = unicode_form(text)
    return _in_pieces(nlp, text) if form == text else _with_tokens_of(nlp, text, form)


def _in_pieces(nlp: Language, text: str) -> Doc:
    """The document of a text, tokenized in pieces if it has long stretches."""
    if _STRETCH.search(text) is None:
        return nlp.make_doc(text)
    docs = [nlp.make_doc(piece) for piece in pieces(text)]
    if len(docs) == 1:
        return docs[0]
    joined = Doc.from_docs(docs, ensure_whitespace=False)
    if joined is None:
        raise AssertionError("several documents have a joined one")
    return joined


def _with_tokens_of(nlp: Language, text: str, form: str) -> Doc:
    """The document of a text with the tokens of its form, as far as their borders are in both."""
    starts: dict[int, int] = {}
    at, at_form = 0, 0
    for unit in _characters(text):
        starts.setdefault(at_form, at)
        at, at_form = at + len(unit), at_form + len(unicode_form(unit))
    if at_form != len(form):
        return _in_pieces(nlp, text)
    cuts = {0, len(text)}
    for token in _in_pieces(nlp, form):
        ends = (token.idx, token.idx + len(token)) if token.whitespace_ else (token.idx,)
        cuts.update(starts[end] for end in ends if end in starts)
    words: list[str] = []
    spaces: list[bool] = []
    for start, end in pairwise(sorted(cuts)):
        if text[start:end] == " " and words and not spaces[-1]:
            spaces[-1] = True
        else:
            words.append(text[start:end])
            spaces.append(False)
    return Doc(nlp.vocab, words=words, spaces=spaces)


def _characters(text: str) -> Iterator[str]:
    """The characters with their marks: parts of a text whose forms make up its form."""
    start = 0
    for at in range(1, len(text)):
        if not _continues(text[at]):
            yield text[start:at]
            start = at
    yield text[start:]


def _continues(character: str) -> bool:
    """Whether a character may compose with the one before it: a mark, or a further sound of Hangul."""
    point = ord(character)
    in_hangul, is_half_width = 0x1160 <= point <= 0x11FF, point in (0xFF9E, 0xFF9F)
    return in_hangul or is_half_width or point in INVISIBLE or category(character).startswith("M")


def pieces(text: str) -> Iterator[str]:
    """Pieces of a text that can be tokenized apart: cut after a space, or in a long stretch."""
    start, before = 0, ""
    for match in _UNITS.finditer(text):
        unit, at = match[0], match.start()
        in_stretch = before and not before.isspace() and not unit.isspace()
        if in_stretch or (before == " " and at - start >= PIECE_CHARS):
            yield text[start:at]
            start = at
        before = unit
    yield text[start:]


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
