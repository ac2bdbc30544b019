"""The memory store: turns, examples, journal, leases, versions and aliases. The only package with SQL.

The store is imported at first use, because SQLAlchemy takes as long as half of spaCy.
"""

from typing import TYPE_CHECKING, Any

from karen_learner.lazy_imports import lazily
from karen_learner.memory.leases import holder_of, owner_of

if TYPE_CHECKING:
    from karen_learner.memory.store import SqlMemoryStore, open_store

__all__ = ["SqlMemoryStore", "holder_of", "open_store", "owner_of"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return lazily(f"{__name__}.store", name)
