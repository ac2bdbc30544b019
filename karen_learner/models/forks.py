"""Threads and locks do not survive `os.fork`: objects with such parts renew them in the child."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """An object with threads or locks."""

    def renew_after_fork(self) -> None:
        """Replace threads and locks. Runs in the child, before any other code of it."""


_renewables: WeakSet[Renewable] = WeakSet()


def renew_in_forked_children(renewable: Renewable) -> None:
    """Call `renew_after_fork` of the object in each later child of this process."""
    _renewables.add(renewable)


def _renew_all() -> None:
    for renewable in list(_renewables):
        renewable.renew_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_renew_all)
