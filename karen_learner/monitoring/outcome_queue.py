"""Recorded outcomes on their way to the window, the detectors and the store.

`record` only appends to a queue. `process` moves the outcomes on in short slices, so that other tasks run
between them. A full queue drops outcomes and counts them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from karen_learner.contracts import OutcomeStore
from karen_learner.errors import KarenLearnerError
from karen_learner.monitoring.degradation import DegradationDetector
from karen_learner.monitoring.window import Key, Sample, Window
from karen_learner.records import Outcome, OutcomeSource, SystemMetrics, utc_now

logger = logging.getLogger(__name__)

MAX_WAITING = 100_000
"""Recorded outcomes that wait for the monitor's task."""
MAX_UNSTORED = 20_000
"""Outcomes that wait to be stored; further ones are measured and not stored."""
SLICE = 100
"""Outcomes that are processed at once: less than a millisecond of the event loop."""
STORE_BATCH = 1_000
LOADED = 100_000
"""Outcomes of the window that `load` reads at most."""
RETENTION_DAYS = 90.0


class Recorded(NamedTuple):
    """An outcome in the queue: the values of `Outcome` without checks, because recording must be fast."""

    at: float
    source: OutcomeSource
    agent: str
    agent_type: str | None = None
    strategy: str | None = None
    domain: str | None = None
    version: str | None = None
    task_id: str | None = None
    predicted: Any = None
    actual: Any = None
    score: float | None = None
    success: bool | None = None
    rating: float | None = None
    error_type: str | None = None
    duration_ms: float | None = None
    cost: float = 0.0
    tokens: int = 0
    outcome_id: str | None = None
    propensity: float | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> Recorded:
        values = {name: getattr(outcome, name) for name in Outcome.model_fields if name in cls._fields}
        values |= {"cost": outcome.cost or 0.0, "tokens": outcome.tokens or 0}
        return cls(at=outcome.known_at.timestamp(), **values)

    def sample(self) -> Sample:
        """The values that the window sums."""
        return Sample(
            at=self.at,
            key=Key(self.agent, self.strategy, self.domain),
            score=self.score,
            success=self.success,
            rating=self.rating,
            is_error=self.success is False,
            duration_ms=self.duration_ms,
            cost=self.cost,
            tokens=self.tokens,
        )

    def outcome(self) -> Outcome:
        """The record for the store."""
        values = {name: value for name, value in self._asdict().items() if value is not None and name != "at"}
        return Outcome(known_at=datetime.fromtimestamp(self.at, timezone.utc), **values)


class OutcomeQueue:
    """The outcomes of one tenant: queue, window, a detector for each agent, and rows to store.

    All plain methods are thread-safe. `counts` are numbers of outcomes since the start of the process.
    """

    def __init__(self, tenant_id: str, window: Window, store: OutcomeStore | None) -> None:
        self.counts = dict.fromkeys(("recorded", "dropped", "not_stored", "stored"), 0)
        self._tenant_id = tenant_id
        self._window = window
        self._store = store
        self._detectors: dict[str, DegradationDetector] = {}
        self._waiting: deque[Recorded] = deque()
        self._unstored: deque[Recorded] = deque()
        self._batch: list[Outcome] = []
        self._measuring = threading.Lock()

    @property
    def waiting(self) -> int:
        """The number of outcomes that are not yet measured."""
        return len(self._waiting)

    @property
    def has_full_batch(self) -> bool:
        """Whether a batch of outcomes waits to be stored."""
        return len(self._unstored) >= STORE_BATCH

    def record(self, one: Recorded) -> None:
        """Append an outcome. Never waits."""
        self.counts["recorded"] += 1
        if len(self._waiting) >= MAX_WAITING:
            self.counts["dropped"] += 1
        else:
            self._waiting.append(one)

    def metrics(self) -> SystemMetrics:
        """The measures of the window, with all recorded outcomes."""
        self._take(MAX_WAITING)
        with self._measuring:
            return self._window.metrics(time.time())

    def alarms(self) -> list[tuple[str, DegradationDetector]]:
        """The agents whose error rate has risen, with their detectors."""
        with self._measuring:
            return [(agent, one) for agent, one in self._detectors.items() if one.alarm]

    def restart_detector(self, agent: str) -> None:
        """Forget the history of an agent: its model has changed."""
        with self._measuring:
            self._detectors.pop(agent, None)

    async def load(self) -> None:
        """Read the outcomes of the window from the store, and remove old ones. Raises StoreError."""
        if self._store is None:
            return
        since = utc_now() - timedelta(minutes=self._window.minutes)
        found = await self._store.newest_outcomes(self._tenant_id, since=since, limit=LOADED)
        for start in range(0, len(found), SLICE):
            with self._measuring:
                for one in found[start : start + SLICE]:
                    self._measure(Recorded.of(one))
            await asyncio.sleep(0)
        await self._store.prune_outcomes(self._tenant_id, before=utc_now() - timedelta(days=RETENTION_DAYS))

    async def process(self) -> None:
        """Measure the waiting outcomes, in slices."""
        while self._waiting:
            self._take(SLICE)
            await asyncio.sleep(0)

    async def save(self) -> bool:
        """Store one batch; whether it did. After a failure its outcomes stay, under the same ids."""
        if self._store is None:
            return False
        while self._unstored and len(self._batch) < STORE_BATCH:
            some = min(SLICE, len(self._unstored))
            self._batch += [self._unstored.popleft().outcome() for _ in range(some)]
            await asyncio.sleep(0)
        batch = self._batch
        if not batch:
            return False
        try:
            await self._store.add_outcomes(self._tenant_id, batch)
        except KarenLearnerError:
            logger.exception("outcomes of %r cannot be stored: trying again", self._tenant_id)
            return False
        self._batch = []
        self.counts["stored"] += len(batch)
        return True

    def _take(self, most: int) -> None:
        with self._measuring:
            for _ in range(min(most, len(self._waiting))):
                one = self._waiting.popleft()
                self._measure(one)
                if self._store is None:
                    continue
                if len(self._unstored) >= MAX_UNSTORED:
                    self.counts["not_stored"] += 1
                else:
                    self._unstored.append(one)

    def _measure(self, one: Recorded) -> None:
        self._window.add(one.sample())
        if one.score is not None:
            self._detectors.setdefault(one.agent, DegradationDetector()).update(1.0 - one.score)
