"""The source of an analysis: the store of one tenant, and the compared periods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from karen_learner.improvement.samples import MAX_IDS, Span
from karen_learner.records import CycleRow, Outcome, Turn
from karen_learner.records.decisions import LogSums
from karen_learner.records.improvement import Recommendation, RecommendationStatus
from karen_learner.records.stream import EventSums


class AnalysisStore(Protocol):
    """The part of a store that analyses read. A `MemoryStore` of this package is one."""

    async def tenant_number(self, tenant_id: str) -> int | None: ...

    def turns_between(
        self, tenant_id: str, start: datetime, end: datetime
    ) -> AsyncIterator[Sequence[Turn]]: ...

    def outcomes_between(
        self, tenant_id: str, start: datetime, end: datetime
    ) -> AsyncIterator[Sequence[Outcome]]: ...

    async def event_sums(
        self, tenant_id: str, *, start: datetime, split: datetime, end: datetime
    ) -> Sequence[EventSums]: ...

    async def save_recommendations(
        self, tenant_id: str, new: Sequence[Recommendation]
    ) -> Sequence[Recommendation]: ...

    async def newest_recommendations(self, tenant_id: str, *, limit: int) -> Sequence[Recommendation]: ...

    async def find_recommendation(self, tenant_id: str, recommendation_id: str) -> Recommendation | None: ...

    async def mark_recommendation(
        self,
        tenant_id: str,
        recommendation_id: str,
        status: RecommendationStatus,
        *,
        now: datetime,
        details: str | None = None,
    ) -> Recommendation | None: ...

    async def decision(self, tenant_id: str, key: str) -> str | None: ...

    async def decision_sums(
        self, tenant_id: str, *, start: datetime, split: datetime, end: datetime
    ) -> Sequence[LogSums]: ...

    async def decision_groups(
        self, tenant_id: str, column: str, *, start: datetime, end: datetime
    ) -> Mapping[str, Mapping[str, float]]: ...

    async def decision_reasons(
        self, tenant_id: str, *, start: datetime, end: datetime
    ) -> Mapping[str, int]: ...

    async def bad_decisions(
        self, tenant_id: str, metric: str, *, start: datetime, end: datetime, limit: int
    ) -> Mapping[str, Sequence[str]]: ...

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
