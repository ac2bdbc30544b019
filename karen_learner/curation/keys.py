"""By what texts are recognised again: the same text, its near-duplicates, and a fixed random draw."""

from __future__ import annotations

import hashlib
import re
import unicodedata

OUTER = frozenset(" .,;:!?'\"`-–—()[]{}«»“”‘’„¿¡。、·")
"""What may stand around a text without making it another one. Not `#`, `%` or `+`: "c#" is not "c"."""

FUNCTION_WORDS = frozenset(
    {
        "a", "am", "an", "and", "are", "as", "at", "be", "by", "can", "could", "do", "does", "for", "from",
        "i", "in", "is", "it", "me", "my", "of", "on", "or", "please", "so", "that", "the", "this", "to",
        "was", "we", "will", "with", "would", "you", "your",
    }
)  # fmt: skip
_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")


def normalised(text: str) -> str:
    """NFKC, case folded, whitespace collapsed, outer punctuation stripped.

    A text of nothing but punctuation keeps it. Idempotent.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    spaced = " ".join(folded.split())
    return _stripped(spaced) or spaced


def _stripped(text: str) -> str:
    inner = [at for at, character in enumerate(text) if character not in OUTER]
    return text[inner[0] : inner[-1] + 1] if inner else ""


def text_key(text: str) -> str:
    """24 hexadecimal digits that the same normalised text always gets."""
    return _digest(normalised(text))


def group_key(text: str) -> str:
    """24 hexadecimal digits that near-duplicates share: the same set of words, whatever their order,
    repetition and numbers, function words aside. Where nothing is left, the `text_key`."""
    words = {_DIGITS.sub("0", word) for word in _WORD.findall(normalised(text))}
    telling = sorted(words - FUNCTION_WORDS)
    return _digest("\x00".join(telling)) if telling else text_key(text)


def example_id(*, key: str, turn_id: str | None) -> str:
    """The id of a new example: made from the turn that it comes from, or for gold from its text.

    Not from the words of a user: they must not be recognised by it after consent was withdrawn.
    """
    return f"ex-{key if turn_id is None else _digest(turn_id)}"


def draw(name: str, seed: int) -> float:
    """A number in [0, 1), uniform over names and fixed for each name and seed."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / float(1 << 48)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
