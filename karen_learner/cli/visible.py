"""Foreign text made safe for a terminal: nothing in it is obeyed, everything is seen."""

from __future__ import annotations

import unicodedata

BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reorder what follows, so that a line can be made to read as another."""
UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """`text` on one line, with control characters shown as escapes: ESC becomes `\\x1b`."""
    return "".join(_escaped(char) if _is_unsafe(char) else char for char in text)


def visible_lines(text: str) -> str:
    """The same for a text whose line ends are wanted: a trace."""
    return "\n".join(map(visible, text.expandtabs().splitlines()))


def shortened(text: str, limit: int) -> str:
    """`text` made visible, and cut to at most `limit` characters."""
    shown = visible(text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _is_unsafe(char: str) -> bool:
    return char in BIDI_CONTROLS or unicodedata.category(char) in UNSAFE_CATEGORIES


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
