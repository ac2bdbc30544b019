"""What is remembered: turns, examples, the journal of cycles, leases, versions. The only room with SQL."""

from karen_learner.memory.owners import owner_of
from karen_learner.memory.store import SqlMemoryStore, open_store

__all__ = ["SqlMemoryStore", "open_store", "owner_of"]
