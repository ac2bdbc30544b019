"""Escapes of control characters: text of users cannot control the terminal."""

from __future__ import annotations

import unicodedata

BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that reorder text."""
UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def escape(text: str) -> str:
    """`text` on one line, with control characters shown as escapes: ESC becomes `\\x1b`."""
    return "".join(_escaped(char) if _is_unsafe(char) else char for char in text)


def escape_lines(text: str) -> str:
    """The same for a multi-line text: line ends stay."""
    return "\n".join(map(escape, text.expandtabs().splitlines()))


def shortened(text: str, limit: int) -> str:
    """The escaped text, cut to at most `limit` characters."""
    shown = escape(text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _is_unsafe(char: str) -> bool:
    return char in BIDI_CONTROLS or unicodedata.category(char) in UNSAFE_CATEGORIES


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
