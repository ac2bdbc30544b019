"""State that the pages share: the changes of watched tenants, and readings of the last seconds."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated

from cachetools import LRUCache
from fastapi import Depends, Request

from karen_learner.contracts import MemoryStore
from karen_learner.events import ModelDeployed, ModelRolledBack, StageStarted
from karen_learner.learner import AutonomousLearner
from karen_learner.monitoring.readings import Readings
from karen_learner.monitoring.readings.over_time import QualityPoint
from karen_learner.monitoring.readings.topics import Topic
from karen_learner.records import CHAMPION, PROVISIONAL, utc_now
from karen_learner.records.readings import Reading
from karen_learner.service.parts import parts_of
from karen_learner.service.streams import WakeQueue, sending_times

logger = logging.getLogger(__name__)

POLL_S = 0.5
PAGE_EVERY_S = 0.1
"""Interval between the pages that are told of traffic. Each reads its parts again, in about 10 ms of CPU."""
READINGS_FOR_S, READINGS_AT_MOST_S = 5.0, 60.0
"""Age from which readings are computed anew in the background, and from which a page waits for them."""
SEPARATOR = "."
MAX_TENANTS = 200
"""Tenants whose recent turns are kept in memory for their pages."""

Snapshot = Mapping[str, str]
"""A digest of the values of each kind: it differs if something of the kind has changed."""


async def snapshot(store: MemoryStore, tenant_id: str) -> Snapshot:
    """The kinds `cycles`, `incidents` and `traffic` of a tenant now, read from indexes and counters."""
    champion = await store.alias(tenant_id, CHAMPION)
    provisional = await store.alias(tenant_id, PROVISIONAL)
    running = await store.unfinished_cycles(tenant_id)
    incidents = await store.unended_incidents()
    counts = await store.counts(tenant_id)
    values: dict[str, object] = {
        "cycles": (
            champion and (champion.version, champion.note),
            provisional and provisional.version,
            [(row.cycle_id, row.stage) for row in running],
            counts.cycles,
        ),
        "incidents": [
            (one.incident_id, one.revision) for one in incidents if one.tenant_id in (None, tenant_id)
        ],
        "traffic": (counts.turns, counts.with_feedback, sorted(counts.examples.items())),
    }
    return {kind: f"{zlib.crc32(repr(value).encode()):08x}" for kind, value in values.items()}


class _Watcher:
    """The kinds that one stream has not told yet. A client that never reads adds nothing to them."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.woken = asyncio.Event()


class Changes:
    """Reads the watched tenants again and again, and names what has changed. Idle without a watcher.

    Changes of this process are read at once, those of others within `poll_s` and the time of the reading.
    """

    def __init__(self, store: MemoryStore, stopping: asyncio.Event, *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._stopping = stopping
        self._poll_s = poll_s
        self._watchers: dict[str, set[_Watcher]] = {}
        self._last: dict[str, Snapshot] = {}
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._queue = WakeQueue()
        self._traffic_queue = WakeQueue(every_s=PAGE_EVERY_S, within_s=math.inf)

    def read_now(self) -> None:
        """Read the watched tenants without a further wait."""
        self._due.set()

    async def seen(self, tenant_id: str) -> str:
        """The present snapshot as a text, for `of`."""
        return SEPARATOR.join((await snapshot(self._store, tenant_id)).values())

    async def of(
        self,
        tenant_id: str,
        seen: str = "",
        *,
        may_go_on: Callable[[], Awaitable[bool]],
        check_s: float | None = None,
    ) -> AsyncIterator[str]:
        """The kinds that change after the snapshot `seen`, until the service stops.

        It also ends if `may_go_on` is false: asked before each change, and after `check_s` without one.
        """
        watcher, last = _Watcher(), await snapshot(self._store, tenant_id)
        if seen:
            before = dict(zip(last, seen.split(SEPARATOR), strict=False))
            self._tell(watcher, _changed(before, last))
        self._last.setdefault(tenant_id, last)
        self._watchers.setdefault(tenant_id, set()).add(watcher)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        times = sending_times(
            watcher.woken, self._queue, self._stopping, may_go_on=may_go_on, check_s=check_s
        )
        try:
            async with aclosing(times):
                async for _ in times:
                    kinds, watcher.kinds = watcher.kinds, set()
                    for kind in sorted(kinds):
                        yield kind
        finally:
            self._leave(tenant_id, watcher)

    def _tell(self, watcher: _Watcher, kinds: Sequence[str]) -> None:
        """Wake a stream because of kinds. Traffic waits for fewer pages at a time than other kinds."""
        if kinds:
            watcher.kinds.update(kinds)
            queue = self._traffic_queue if watcher.kinds == {"traffic"} else self._queue
            queue.add(watcher.woken)

    def _leave(self, tenant_id: str, watcher: _Watcher) -> None:
        watchers = self._watchers.get(tenant_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(tenant_id, None)
            self._last.pop(tenant_id, None)

    async def _watch(self) -> None:
        while self._watchers and not self._stopping.is_set():
            self._due.clear()
            for tenant_id in list(self._watchers):
                try:
                    self._compare(tenant_id, await snapshot(self._store, tenant_id))
                except Exception:  # a store that does not answer now, or a damaged row: the others go on
                    logger.exception("changes of %r cannot be read", tenant_id)
            await self._pause()

    async def _pause(self) -> None:
        waits = [asyncio.create_task(one.wait()) for one in (self._stopping, self._due)]
        await asyncio.wait(waits, timeout=self._poll_s, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()

    def _compare(self, tenant_id: str, now: Snapshot) -> None:
        last = self._last.get(tenant_id)
        if last is None:  # nobody watches any more
            return
        self._last[tenant_id] = now
        changed = _changed(last, now)
        for watcher in self._watchers.get(tenant_id, ()):
            self._tell(watcher, changed)


def _changed(before: Snapshot, now: Snapshot) -> list[str]:
    return [kind for kind in now if now[kind] != before.get(kind)]


@dataclass(frozen=True)
class Measured:
    """The readings of a tenant, its quality over time and by version, and its topics."""

    readings: Mapping[str, Reading]
    series: list[QualityPoint]
    versions: Mapping[str, QualityPoint]
    topics: list[Topic]


@dataclass(eq=False)
class _Recent:
    """The readings of one tenant, and those that were computed last."""

    tenant_id: str
    readings: Readings
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    read_at: float = float("-inf")
    measured: Measured | None = None
    refreshing: asyncio.Task[Measured] | None = None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.read_at

    async def refreshed(self) -> Measured:
        """Readings that are at most `READINGS_FOR_S` old."""
        async with self.lock:
            if self.measured is None or self.age_s > READINGS_FOR_S:
                found = await self.readings.refresh(self.tenant_id, utc_now())
                tenant, readings = self.tenant_id, self.readings
                quality, versions = readings.quality(tenant), readings.quality_by_version(tenant)
                self.measured = Measured(found, quality, versions, readings.topics(tenant))
                self.read_at = time.monotonic()
            return self.measured

    def refresh_in_background(self) -> None:
        if self.refreshing is None or self.refreshing.done():
            self.refreshing = asyncio.create_task(self.refreshed())
            self.refreshing.add_done_callback(_log_failure)


def _log_failure(task: asyncio.Task[Measured]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("readings for the dashboard cannot be computed: %s", error)


class DashboardState:
    """State of the dashboard of one application."""

    def __init__(self, learner: AutonomousLearner, stopping: asyncio.Event) -> None:
        self._learner = learner
        self.changes = Changes(learner.store, stopping)
        self._recent: LRUCache[str, _Recent] = LRUCache(MAX_TENANTS)
        for kind in (ModelDeployed, ModelRolledBack, StageStarted):
            learner.events.subscribe(lambda _: self.changes.read_now(), to=kind)

    async def measured(self, tenant_id: str) -> Measured:
        """The readings of a tenant, at most `READINGS_AT_MOST_S` old. Raises StoreError."""
        recent = self._recent.get(tenant_id)
        if recent is None:
            learner = self._learner
            readings = Readings(learner.store, learner.layout, learner.settings)
            recent = self._recent[tenant_id] = _Recent(tenant_id, readings)
        if recent.measured is None or recent.age_s > READINGS_AT_MOST_S:
            return await recent.refreshed()
        if recent.age_s > READINGS_FOR_S:
            recent.refresh_in_background()
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
