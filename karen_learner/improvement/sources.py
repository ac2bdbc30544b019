"""The source of an analysis: the store of one tenant, and the compared periods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from karen_learner.improvement.samples import MAX_IDS, Span
from karen_learner.records import CycleRow, Outcome, Turn


class AnalysisStore(Protocol):
    """The part of a store that analyses read. A `MemoryStore` of this package is one."""

    async def tenant_number(self, tenant_id: str) -> int | None: ...

    def turns_between(
        self, tenant_id: str, start: datetime, end: datetime
    ) -> AsyncIterator[Sequence[Turn]]: ...

    def outcomes_between(
        self, tenant_id: str, start: datetime, end: datetime
    ) -> AsyncIterator[Sequence[Outcome]]: ...

    async def cycles(
        self, tenant_id: str | None, *, limit: int = 20, since: int | None = None
    ) -> Sequence[CycleRow]: ...


@dataclass(frozen=True)
class Source:
    """The data of one analysis. `max_ids` bounds the ids of evidence of each metric."""

    store: AnalysisStore
    tenant_id: str
    span: Span
    max_ids: int = MAX_IDS
