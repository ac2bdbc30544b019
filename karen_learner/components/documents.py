"""Documents of texts in bounded time.

spaCy's tokenizer strips the signs around a word one by one, and searches the rest each time: 6,000 signs
without white space take 7 s, in which no other thread of the process runs.
"""

import re
from collections.abc import Iterator

from spacy.language import Language
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc

LONGEST_STRETCH = 250
"""Characters without white space that the tokenizer gets at a time; it needs up to 20 ms for them."""
LONGEST_SIGNS = 50
"""Signs in a row that the tokenizer gets at a time; it needs about 1 ms for them."""
PIECE_CHARS = 1_000
"""A text with a stretch of LONGEST_SIGNS is tokenized in pieces of about this length. Other threads run
between them."""
_STRETCH = re.compile(rf"\S{{{LONGEST_SIGNS}}}")
_UNITS = re.compile(
    rf"\S{{0,{LONGEST_STRETCH - LONGEST_SIGNS}}}?(?:[^\w\s]|_){{{LONGEST_SIGNS}}}"
    rf"|\S{{1,{LONGEST_STRETCH}}}|\s+"
)


def make_doc(nlp: Language, text: str) -> Doc:
    """The document of `nlp.make_doc(text)`, with cuts in long rows of signs and in long stretches.

    Tokenizers of other classes get the whole text. Raises ValueError for a text that spaCy refuses.
    """
    is_bounded = _STRETCH.search(text) is None
    if is_bounded or len(text) > nlp.max_length or not isinstance(nlp.tokenizer, Tokenizer):
        return nlp.make_doc(text)
    docs = [nlp.make_doc(piece) for piece in pieces(text)]
    if len(docs) == 1:
        return docs[0]
    joined = Doc.from_docs(docs, ensure_whitespace=False)
    if joined is None:
        raise AssertionError("several documents have a joined one")
    return joined


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
