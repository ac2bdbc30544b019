"""What every text passes through before it is analysed or stored."""

from __future__ import annotations

import re

from karen_learner.errors import InvalidInput

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


def clean_text(text: str, *, limit: int, what: str, setting: str | None = None) -> str:
    """The text with what neither spaCy nor a database can hold replaced, one for one.

    Lone surrogates and the C0 controls other than tab, newline and carriage return become U+FFFD, so
    that character offsets stay right. Raises InvalidInput if it is no text, has nothing in it but
    white space, or is longer than `limit` characters (naming `setting`, by which that is changed).
    """
    if not isinstance(text, str):
        raise InvalidInput(f"{what} must be a text, not {type(text).__name__}")
    if not text or text.isspace():
        raise InvalidInput(f"{what} is empty")
    return replace_unfit(within_limit(text, limit=limit, what=what, setting=setting))


def within_limit(text: str, *, limit: int, what: str, setting: str | None = None) -> str:
    """The text itself, or InvalidInput if it is longer than `limit` characters."""
    if len(text) > limit:
        remedy = f": shorten it or raise the setting {setting}" if setting else ""
        raise InvalidInput(f"{what} has {len(text):,} characters, more than the {limit:,} allowed{remedy}")
    return text


def replace_unfit(text: str) -> str:
    """Replace lone surrogates and control characters, one for one."""
    return _UNFIT.sub(REPLACEMENT, text)
