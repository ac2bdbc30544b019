"""State that the pages share: the changes of watched tenants, and readings of the last seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from cachetools import LRUCache
from fastapi import Depends, Request

from karen_learner.contracts import MemoryStore
from karen_learner.errors import KarenLearnerError
from karen_learner.learner import AutonomousLearner
from karen_learner.monitoring.readings import Readings
from karen_learner.monitoring.readings.over_time import QualityPoint
from karen_learner.monitoring.readings.topics import Topic
from karen_learner.records import CHAMPION, PROVISIONAL, utc_now
from karen_learner.records.readings import Reading
from karen_learner.service.parts import parts_of

logger = logging.getLogger(__name__)

POLL_S = 0.5
READINGS_FOR_S = 5.0
MAX_TENANTS = 200
"""Tenants whose recent turns are kept in memory for their pages."""

Snapshot = Mapping[str, Any]


async def snapshot(store: MemoryStore, tenant_id: str) -> Snapshot:
    """Small values of a tenant by kind, which differ if something of the kind has changed. From indexes."""
    champion = await store.alias(tenant_id, CHAMPION)
    provisional = await store.alias(tenant_id, PROVISIONAL)
    running = await store.unfinished_cycles(tenant_id)
    incidents = await store.unended_incidents()
    counts = await store.counts(tenant_id)
    return {
        "cycles": (
            champion and (champion.version, champion.note),
            provisional and provisional.version,
            [(row.cycle_id, row.stage) for row in running],
            counts.cycles,
        ),
        "incidents": [
            (one.incident_id, one.revision) for one in incidents if one.tenant_id in (None, tenant_id)
        ],
        "traffic": (counts.turns, counts.with_feedback, counts.examples),
    }


class Changes:
    """Reads the watched tenants again and again, and names what has changed. Idle without a watcher."""

    def __init__(self, store: MemoryStore, stopping: asyncio.Event, *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._stopping = stopping
        self._poll_s = poll_s
        self._watchers: dict[str, set[asyncio.Queue[str | None]]] = {}
        self._last: dict[str, Snapshot] = {}
        self._task: asyncio.Task[None] | None = None

    async def of(self, tenant_id: str) -> AsyncIterator[str]:
        """The kinds of changes (`cycles`, `incidents`, `traffic`) until the service stops."""
        waiting: asyncio.Queue[str | None] = asyncio.Queue()
        self._watchers.setdefault(tenant_id, set()).add(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            while (kind := await waiting.get()) is not None:
                yield kind
        finally:
            self._leave(tenant_id, waiting)

    def _leave(self, tenant_id: str, waiting: asyncio.Queue[str | None]) -> None:
        watchers = self._watchers.get(tenant_id, set())
        watchers.discard(waiting)
        if not watchers:
            self._watchers.pop(tenant_id, None)
            self._last.pop(tenant_id, None)

    async def _watch(self) -> None:
        while self._watchers and not self._stopping.is_set():
            for tenant_id in list(self._watchers):
                try:
                    self._tell(tenant_id, await snapshot(self._store, tenant_id))
                except KarenLearnerError as error:  # a store that does not answer now
                    logger.warning("changes of %r cannot be read: %s", tenant_id, error)
            try:
                await asyncio.wait_for(self._stopping.wait(), self._poll_s)
            except TimeoutError:
                continue
        for watchers in self._watchers.values():
            for waiting in watchers:
                waiting.put_nowait(None)

    def _tell(self, tenant_id: str, now: Snapshot) -> None:
        last = self._last.get(tenant_id)
        if tenant_id in self._watchers:
            self._last[tenant_id] = now
        for kind in now if last is not None else ():
            if now[kind] != (last or {})[kind]:
                for waiting in self._watchers.get(tenant_id, ()):
                    waiting.put_nowait(kind)


@dataclass(frozen=True)
class Measured:
    """The readings of a tenant, its quality over time, and its topics."""

    readings: Mapping[str, Reading]
    series: list[QualityPoint]
    topics: list[Topic]


@dataclass
class _Recent:
    readings: Readings
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    read_at: float = float("-inf")
    measured: Measured | None = None


class DashboardState:
    """State of the dashboard of one application."""

    def __init__(self, learner: AutonomousLearner, stopping: asyncio.Event) -> None:
        self._learner = learner
        self.changes = Changes(learner.store, stopping)
        self._recent: LRUCache[str, _Recent] = LRUCache(MAX_TENANTS)

    async def measured(self, tenant_id: str) -> Measured:
        """The readings of a tenant, at most `READINGS_FOR_S` old. Raises StoreError."""
        recent = self._recent.get(tenant_id)
        if recent is None:
            learner = self._learner
            readings = Readings(learner.store, learner.layout, learner.settings)
            recent = self._recent[tenant_id] = _Recent(readings)
        async with recent.lock:
            if recent.measured is None or time.monotonic() - recent.read_at > READINGS_FOR_S:
                found = await recent.readings.refresh(tenant_id, utc_now())
                quality, topics = recent.readings.quality(tenant_id), recent.readings.topics(tenant_id)
                recent.measured = Measured(found, quality, topics)
                recent.read_at = time.monotonic()
        return recent.measured


def state_of(request: Request) -> DashboardState:
    """The state of the dashboard of a request's application. Made at its first use."""
    state = request.app.state
    if not hasattr(state, "dashboard"):
        parts = parts_of(request)
        state.dashboard = DashboardState(parts.learner, parts.stopping)
    made: DashboardState = state.dashboard
    return made


Shown = Annotated[DashboardState, Depends(state_of)]
