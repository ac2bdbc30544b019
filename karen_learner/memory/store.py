"""`SqlMemoryStore`: `MemoryStore` on SQLAlchemy. It runs the functions of this package in transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from karen_learner.batching import Batcher
from karen_learner.contracts import Clock
from karen_learner.memory import counters, curation, examples, journal, tenants, turns, versions
from karen_learner.memory.database import Database
from karen_learner.memory.engine import parse_url
from karen_learner.memory.turn_writer import Incoming, LateFeedback, NewTurn, TurnWriter
from karen_learner.records import (
    CHAMPION,
    CYCLE_LEASE,
    AwaitingTurn,
    CurationWrite,
    CycleRow,
    Example,
    ExampleState,
    LearningCycleResult,
    Lease,
    ModelVersion,
    Promotion,
    Split,
    Stage,
    Task,
    TenantCounts,
    Turn,
    UserFeedback,
    VersionCounts,
    utc_now,
)
from karen_learner.settings import StoreSettings


def open_store(url_or_path: str | Path, settings: StoreSettings, *, clock: Clock = utc_now) -> SqlMemoryStore:
    """A store that is not started yet: use it with `async with`, or await `start()`.

    `url_or_path` is `":memory:"`, the path of an SQLite file, or an SQLAlchemy URL of SQLite or PostgreSQL.
    Raises SettingsError for any other database. `settings.url` is ignored.
    """
    return SqlMemoryStore(
        Database(parse_url(url_or_path), busy_timeout_s=settings.busy_timeout_s), settings, clock
    )


class SqlMemoryStore:
    """The `MemoryStore` of SQLite and PostgreSQL. `open_store` makes one."""

    def __init__(self, database: Database, settings: StoreSettings, clock: Clock = utc_now) -> None:
        self._database = database
        self._page_size = settings.page_size
        self._clock = clock
        self._incoming: Batcher[Incoming, Turn] = Batcher(
            TurnWriter(database).write,
            queue_size=settings.queue_size,
            max_batch=settings.max_batch,
            owner=f"the store {database.place}",
        )
        self._starting = asyncio.Lock()
        self._started = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        async with self._starting:
            if self._started:
                self._database.require_open()
                return
            await self._database.start()
            self._started = True

    async def close(self) -> None:
        await self._incoming.close()
        await self._database.close()

    async def add_turn(self, turn: Turn) -> Turn:
        if not self._started:
            self._database.require_open()
        return await self._incoming.submit(NewTurn(turn))

    async def add_feedback(self, tenant_id: str, turn_id: str, feedback: UserFeedback) -> Turn:
        if not self._started:
            self._database.require_open()
        return await self._incoming.submit(LateFeedback.of(tenant_id, turn_id, feedback))

    async def get_turn(self, tenant_id: str, turn_id: str) -> Turn | None:
        return await self._database.read(turns.get, tenant_id, turn_id)

    async def turns(self, tenant_id: str, *, after_seq: int = 0) -> AsyncIterator[Turn]:
        read, size = self._database.read, self._page_size
        while page := await read(turns.page, tenant_id, after=after_seq, size=size):
            for turn in page:
                yield turn
            after_seq = page[-1].seq or 0

    async def turns_awaiting_curation(
        self, tenant_id: str, *, after_seq: int = 0
    ) -> AsyncIterator[Sequence[AwaitingTurn]]:
        read, size = self._database.read, self._page_size
        while page := await read(turns.awaiting_page, tenant_id, after=after_seq, size=size):
            yield page
            after_seq = page[-1].turn.seq or 0

    async def save_curation(
        self, tenant_id: str, curated: CurationWrite, *, token: int | None = None
    ) -> bool:
        return await self._database.write((tenant_id,), curation.save_curation, tenant_id, curated, token)

    async def examples_by_key(self, tenant_id: str, keys: Sequence[str]) -> Mapping[str, Example]:
        return await self._database.read(examples.by_key, tenant_id, keys)

    async def splits_by_group(self, tenant_id: str, groups: Sequence[str]) -> Mapping[str, Split]:
        return await self._database.read(examples.splits, tenant_id, groups)

    async def examples(
        self,
        tenant_id: str,
        *,
        state: ExampleState,
        split: Split | None = None,
        newest_first: bool = False,
    ) -> AsyncIterator[Example]:
        wanted = examples.ExampleFilter(tenant_id, state, split, newest_first)
        beyond: int | None = None
        while page := await self._database.read(examples.page, wanted, beyond=beyond, size=self._page_size):
            for example in page:
                yield example
            beyond = page[-1].seq

    async def sample_learned(
        self, tenant_id: str, stratum: str, *, limit: int, from_draw: float
    ) -> Sequence[Example]:
        return await self._database.read(
            examples.sample, tenant_id, stratum, limit=limit, from_draw=from_draw
        )

    async def strata(self, tenant_id: str, *, state: ExampleState, split: Split) -> Mapping[str, int]:
        return await self._database.read(counters.strata, tenant_id, state, split)

    async def labels(self, tenant_id: str) -> Mapping[Task, Mapping[str, int]]:
        return await self._database.read(counters.labels, tenant_id)

    async def declare_labels(self, tenant_id: str, labels: Mapping[Task, Sequence[str]]) -> None:
        await self._database.write((tenant_id,), counters.declare, tenant_id, labels)

    async def reject_examples(
        self,
        tenant_id: str,
        trained: Sequence[Example],
        *,
        harmful: bool,
        quarantine_at: int,
        token: int | None = None,
    ) -> int:
        return await self._database.write(
            (tenant_id,),
            curation.reject,
            tenant_id,
            trained,
            harmful=harmful,
            quarantine_at=quarantine_at,
            token=token,
        )

    async def start_cycle(self, row: CycleRow) -> None:
        await self._database.write(None, journal.start, row)

    async def advance_cycle(self, tenant_id: str, cycle_id: str, stage: Stage, *, token: int) -> None:
        await self._database.write((tenant_id,), journal.advance, tenant_id, cycle_id, stage, token)

    async def finish_cycle(
        self, tenant_id: str, cycle_id: str, result: LearningCycleResult, *, stage: Stage = "finished"
    ) -> None:
        now = self._clock()
        await self._database.write((tenant_id,), journal.finish, tenant_id, cycle_id, result, stage, now)

    async def unfinished_cycles(self, tenant_id: str) -> Sequence[CycleRow]:
        return await self._database.read(journal.unfinished, tenant_id)

    async def unfinished_tenants(self) -> Sequence[str]:
        return await self._database.read(journal.unfinished_tenants)

    async def cycles(
        self, tenant_id: str | None, *, limit: int = 20, since: int | None = None
    ) -> Sequence[CycleRow]:
        return await self._database.read(journal.page, tenant_id, limit, since)

    async def cycle_tallies(self, tenant_id: str | None) -> Mapping[str, float]:
        return await self._database.read(counters.tallies, tenant_id)

    async def acquire_lease(
        self, tenant_id: str, owner: str, *, name: str = CYCLE_LEASE, ttl: timedelta
    ) -> Lease | None:
        acquire, now = journal.acquire_lease, self._clock()
        return await self._database.write(
            (tenant_id,), acquire, tenant_id, owner, name=name, now=now, ttl=ttl
        )

    async def renew_lease(self, lease: Lease, *, ttl: timedelta) -> Lease:
        renew, now = journal.renew_lease, self._clock()
        return await self._database.write((lease.tenant_id,), renew, lease, now=now, ttl=ttl)

    async def release_lease(self, lease: Lease) -> None:
        await self._database.write((lease.tenant_id,), journal.release_lease, lease)

    async def next_version_number(self, tenant_id: str) -> int:
        return await self._database.write((tenant_id,), versions.next_number, tenant_id)

    async def promote(self, tenant_id: str, promotion: Promotion, *, token: int | None) -> bool:
        return await self._database.write((tenant_id,), versions.promote, tenant_id, promotion, token)

    async def champion(self, tenant_id: str) -> ModelVersion | None:
        return await self.alias(tenant_id, CHAMPION)

    async def alias(self, tenant_id: str, name: str) -> ModelVersion | None:
        return await self._database.read(versions.alias, tenant_id, name)

    async def versions(
        self, tenant_id: str, *, limit: int = 100, since: str | None = None
    ) -> Sequence[ModelVersion]:
        return await self._database.read(versions.page, tenant_id, limit, since)

    async def get_version(self, tenant_id: str, version: str) -> ModelVersion | None:
        return await self._database.read(versions.find, tenant_id, version)

    async def lineage(self, tenant_id: str, version: str) -> AsyncIterator[str]:
        async for example_id in self._linked(versions.lineage_page, tenant_id, version):
            yield example_id

    async def _linked(
        self, page_of: Callable[..., Sequence[tuple[int, str]]], tenant_id: str, version: str
    ) -> AsyncIterator[str]:
        """Ids of the rows that a version is connected with, read in pages."""
        after = 0
        while page := await self._database.read(
            page_of, tenant_id, version, after=after, size=self._page_size
        ):
            for _, other_id in page:
                yield other_id
            after = page[-1][0]

    async def tenants(self, *, after: str | None = None, limit: int | None = None) -> Sequence[str]:
        return await self._database.read(tenants.page, after=after, limit=limit)

    async def counts(self, tenant_id: str) -> TenantCounts:
        return await self._database.read(counters.overview, tenant_id)

    async def version_counts(self, tenant_id: str, version: str) -> VersionCounts:
        return await self._database.read(counters.of_version, tenant_id, version)

    async def total_turns(self) -> int:
        return await self._database.read(counters.total_turns)
