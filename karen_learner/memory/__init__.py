"""The memory store: turns, examples, journal, leases, versions and aliases. The only package with SQL."""

from karen_learner.memory.process_identity import holder_of, owner_of
from karen_learner.memory.store import SqlMemoryStore, open_store

__all__ = ["SqlMemoryStore", "holder_of", "open_store", "owner_of"]
