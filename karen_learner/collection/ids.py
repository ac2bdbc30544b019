"""New identifiers."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """A UUID of version 7, as 32 hexadecimal digits: the time in milliseconds, then 74 random bits.

    Identifiers that are made one after the other lie side by side in the store's index. With random ones
    each turn writes another page of it, which halves the turns that are stored in a second. See RFC 9562,
    section 5.7.
    """
    version_and_variant = (7 << 76) | (2 << 62)
    random = (secrets.randbits(12) << 64) | secrets.randbits(62)
    return f"{(time.time_ns() // 1_000_000 << 80) | version_and_variant | random:032x}"
