"""The source of an analysis: the store of one tenant, and the compared periods."""

from __future__ import annotations

from dataclasses import dataclass

from karen_learner import memory
from karen_learner.improvement.samples import MAX_IDS, Span


@dataclass(frozen=True)
class Source:
    """The data of one analysis. `max_ids` bounds the ids of evidence of each metric."""

    store: memory.SqlMemoryStore
    tenant_id: str
    span: Span
    max_ids: int = MAX_IDS
