"""Which writings are one text: the Unicode form of words, normalised texts, their keys, and ids of examples.

Keys are stored. A change of a key needs a higher VERSION, and the former function in `memory/text_keys.py`:
the store recomputes its keys when it opens.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

VERSION = 2
"""Version of the keys that this module computes."""
OUTER = frozenset(" .,;:!?'\"`-–—«»“”‘’„¿¡。、·")
"""Signs that may surround a text without changing it, unless they carry something (`_CARRYING`). Not `#`, `%`
or `+`: "c#" is not "c"."""
_INVISIBLE_RANGES = (
    (0x00AD, 0x00AD),  # the soft hyphen
    (0x200B, 0x200B),  # the zero-width space
    (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069),  # marks of direction
    (0x2060, 0x2064), (0xFEFF, 0xFEFF),  # the word joiner, invisible operators, the byte order mark
    (0xFE00, 0xFE0F),  # variation selectors
)  # fmt: skip
INVISIBLE = {point: None for first, last in _INVISIBLE_RANGES for point in range(first, last + 1)}
"""Characters without a shape of their own, as a table for `str.translate`. Zero-width joiners stay, because
they change words of some languages."""
_PARTNERS = {")": "(", "]": "[", "}": "{"}
"""Brackets are outer in pairs around a text. Otherwise they carry something: "спасибо)" is a smile."""
_BRACKETS = frozenset("()[]{}")
_CARRYING = re.compile(
    r"""
      [:;=] ['’`"]? [-^o~*]? (?: [)(\[\]{}|\\/<>*@$] | [dpo3cxsb](?!\w) )  # an emoticon
    | ;[-_.]+; | '[-_]+' | -[_.]+- | \._+\.                               # a face without a mouth
    | -{1,2} (?= [.,$€£¥₹]{0,2} \w )                                      # -5, -$5, -v, --force
    | – (?= [.,$€£¥₹]{0,2} \d )                                           # a dash in place of a minus
    | (?<= \w ) - (?! [-\w] )                                             # the grade A-
    | (?<! [.\w] ) \. (?= \w )                                            # .5, .net
    """,
    re.VERBOSE,
)
"""Signs that change a text wherever they are, in lower case."""

FUNCTION_WORDS = frozenset(
    {
        "a", "am", "an", "and", "are", "as", "at", "be", "by", "can", "could", "do", "does", "for", "from",
        "i", "in", "is", "it", "me", "my", "of", "on", "or", "please", "so", "that", "the", "this", "to",
        "was", "we", "will", "with", "would", "you", "your",
    }
)  # fmt: skip
_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")


def unicode_form(text: str) -> str:
    """The text in the compatibility form of Unicode (NFKC), without invisible characters.

    Composed, decomposed and full-width writings of a text have the same form.
    """
    return text if text.isascii() else unicodedata.normalize("NFKC", text.translate(INVISIBLE))


def clean_label(label: str) -> str:
    """The label in composed form (NFC), without outer white space and invisible characters."""
    if label.isascii():
        return label.strip()
    return unicodedata.normalize("NFC", label.translate(INVISIBLE)).strip()


def normalised(text: str) -> str:
    """Unicode form, case folded, white space collapsed, without outer signs that carry nothing. Idempotent.

    "thanks :)" and "-5" keep their signs. A text that consists of outer signs keeps them.
    """
    spaced = " ".join(unicode_form(unicode_form(text).casefold()).split())
    if not spaced or _at_ends(spaced).isdisjoint(OUTER | _BRACKETS):
        return spaced
    start, end = _inner(spaced)
    return spaced[start:end] if start < end else spaced


def text_key(text: str) -> str:
    """Digest of the normalised text, 24 hexadecimal digits."""
    return digest(normalised(text))


def group_key(text: str) -> str:
    """Digest that near-duplicates share: of the set of words without function words, digits replaced by 0.

    The `text_key` if no word remains.
    """
    words = {_DIGITS.sub("0", word) for word in _WORD.findall(normalised(text))}
    content_words = sorted(words - FUNCTION_WORDS)
    return digest("\x00".join(content_words)) if content_words else text_key(text)


def example_id(*, key: str, turn_id: str | None) -> str:
    """The id of a new example: a digest of its turn's id, for gold the key of its text.

    Not a digest of a user's words: an id must not identify them after consent is withdrawn.
    """
    return f"ex-{key if turn_id is None else digest(turn_id)}"


def draw(name: str, seed: int) -> float:
    """A number in [0, 1), uniform over names, fixed for each name and seed."""
    hashed = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=6).digest()
    return int.from_bytes(hashed, "big") / float(1 << 48)


def digest(text: str) -> str:
    """A digest of the text, 24 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _at_ends(text: str) -> frozenset[str]:
    return frozenset((text[0], text[-1]))


def _inner(text: str) -> tuple[int, int]:
    """Start and end of the text without outer signs, and with one of equal brackets at either end."""
    carrying = {at for match in _CARRYING.finditer(text) for at in range(*match.span())}

    def is_outer(at: int) -> bool:
        return text[at] in OUTER and at not in carrying

    start, end, in_brackets = 0, len(text), True
    while in_brackets:
        while start < end and is_outer(start):
            start += 1
        while start < end and is_outer(end - 1):
            end -= 1
        in_brackets = start + 1 < end and _PARTNERS.get(text[end - 1]) == text[start]
        in_brackets = in_brackets and end - 1 not in carrying
        start, end = start + in_brackets, end - in_brackets
    while start + 1 < end and text[start] == text[start + 1] and text[start] in _BRACKETS:
        start += 1
    while start + 1 < end and text[end - 1] == text[end - 2] and text[end - 1] in _BRACKETS:
        end -= 1
    return start, end
