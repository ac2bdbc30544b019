"""The newest turns and outcomes of a tenant, read incrementally: each row is read once. Bounded in memory."""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from karen_learner.contracts import MemoryStore
from karen_learner.monitoring.degradation import DegradationDetector
from karen_learner.monitoring.scores import outcome_of
from karen_learner.records import ModelVersion, Outcome, Turn
from karen_learner.settings import MonitoringSettings

PAGE = 1_000
FEATURE_BITS = 12
"""Texts are kept as sets of hashed words and character trigrams below `2 ** FEATURE_BITS`, not as texts."""
MAX_FEATURE_CHARS = 1_000
AWAITING_REACH = 10_000
"""Newest turns that are searched for late feedback each `SEARCH_EVERY`."""
NEAR_REACH = 100
"""Newest turns that each tick searches for late feedback."""
SEARCH_EVERY = timedelta(minutes=5)
_WORD = re.compile(r"\w+", re.UNICODE)


class TurnFacts(NamedTuple):
    """The values of a turn that readings use. No text."""

    seq: int
    at: datetime
    version: str | None
    intent: str | None
    confidence: float
    out_of_scope: bool
    degraded: bool
    satisfaction: float | None
    response_quality: float | None
    words: frozenset[int]
    features: NDArray[np.int64]
    score: float | None = None
    """Whether the answer was right, if the stored turn has feedback that tells it."""


def facts_of(turn: Turn) -> TurnFacts:
    """The facts of a stored turn."""
    found = turn.metadata
    words, features = hashed(turn.user_text or "")
    return TurnFacts(
        seq=turn.seq or 0,
        at=found.occurred_at,
        version=found.model_version,
        intent=found.intent_detected,
        confidence=found.intent_confidence,
        out_of_scope=turn.out_of_scope,
        degraded=found.degraded,
        satisfaction=found.user_satisfaction,
        response_quality=found.response_quality,
        words=words,
        features=features,
        score=None if (outcome := outcome_of(turn)) is None else outcome.score,
    )


def hashed(text: str) -> tuple[frozenset[int], NDArray[np.int64]]:
    """Hashes of the words of a text, and its feature buckets: words and character trigrams."""
    words = _WORD.findall(text[:MAX_FEATURE_CHARS].casefold())
    keys = [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words]
    trigrams = [f" {word} "[at : at + 3] for word in words for at in range(len(word))]
    marks = [zlib.crc32(part.encode("utf-8", "surrogatepass"), 1) for part in trigrams]
    buckets = np.unique(np.array([*keys, *marks], dtype=np.int64) & ((1 << FEATURE_BITS) - 1))
    return frozenset(keys), buckets


@dataclass(eq=False)
class RecentData:
    """The newest turns and outcomes of one tenant, and the detectors of its agents.

    `refresh` reads the rows that were committed since the last call, and stores the outcomes of turns whose
    feedback is new. A detector starts anew with a new version of the model; without an alarm it keeps its
    history.
    """

    store: MemoryStore
    tenant_id: str
    settings: MonitoringSettings
    turns: deque[TurnFacts] = field(init=False)
    outcomes: deque[Outcome] = field(init=False)
    detectors: dict[str, DegradationDetector] = field(default_factory=dict)
    turn_count: int = 0
    _last_turn: int | None = None
    _last_outcome: int | None = None
    _feedback: tuple[int, int] = (-1, -1)
    _searched_at: datetime | None = None
    _stored: LRUCache[str, bool] = field(default_factory=lambda: LRUCache(AWAITING_REACH))
    _version: str | None = None

    def __post_init__(self) -> None:
        self.turns = deque(maxlen=self.settings.recent_turns)
        self.outcomes = deque(maxlen=self.settings.recent_outcomes)

    async def refresh(self, now: datetime, champion: ModelVersion | None) -> None:
        """Read the rows that are new since the last call. `champion` is the version that serves."""
        await self._read_turns(now)
        await self._search_late_feedback(now)
        await self._read_outcomes(champion)
        start = now - timedelta(days=self.settings.window_days)
        while self.turns and self.turns[0].at < start:
            self.turns.popleft()
        while self.outcomes and self.outcomes[0].known_at < start:
            self.outcomes.popleft()

    async def _read_turns(self, now: datetime) -> None:
        if self._last_turn is None:
            for turn in await self.store.newest_turns(self.tenant_id, limit=self.settings.recent_turns):
                self._add_turn(turn)
            self._last_turn = self.turns[-1].seq if self.turns else 0
            return
        new: list[Turn] = []
        async for turn in self.store.turns(self.tenant_id, after_seq=self._last_turn):
            self._add_turn(turn)
            new.append(turn)
            if len(new) == PAGE:
                await self._store_outcomes(new, now)
                new = []
        await self._store_outcomes(new, now)

    def _add_turn(self, turn: Turn) -> None:
        self.turns.append(facts_of(turn))
        self.turn_count += 1
        self._last_turn = turn.seq

    async def _store_outcomes(self, turns: Sequence[Turn], now: datetime) -> None:
        """Store the outcomes of turns with feedback. The id of an outcome is that of its turn."""
        if self.store.read_only is not None:
            return
        new = [one for one in turns if one.turn_id not in self._stored]
        found = {one.turn_id: outcome for one in new if (outcome := outcome_of(one)) is not None}
        outcomes = [one.model_copy(update={"known_at": now}) for one in found.values()]
        await self.store.add_outcomes(self.tenant_id, outcomes)
        self._stored.update(dict.fromkeys(found, True))

    async def _search_late_feedback(self, now: datetime) -> None:
        """Store the outcomes of turns that have got feedback after they were read."""
        counts = await self.store.counts(self.tenant_id)
        feedback = (counts.with_feedback, counts.corrections)
        if feedback == self._feedback:
            return
        due = self._searched_at is None or abs(now - self._searched_at) >= SEARCH_EVERY
        since = max(0, (self._last_turn or 0) - (AWAITING_REACH if due else NEAR_REACH))
        async for page in self.store.turns_awaiting_curation(self.tenant_id, after_seq=since):
            await self._store_outcomes([one.turn for one in page], now)
        if due and self.store.read_only is None:
            self._searched_at, self._feedback = now, feedback

    async def _read_outcomes(self, champion: ModelVersion | None) -> None:
        version = champion.version if champion is not None else None
        if version != self._version:
            self._version = version
            for agent, detector in self.detectors.items():
                self.detectors[agent] = _renewed(detector)
        if self._last_outcome is None:
            limit = self.settings.recent_outcomes
            rows = await self.store.outcome_page(self.tenant_id, limit=limit)
            self._add_outcomes(rows)
            self._last_outcome = rows[-1][0] if rows else 0
            return
        while rows := await self.store.outcome_page(self.tenant_id, limit=PAGE, after=self._last_outcome):
            self._add_outcomes(rows)

    def _add_outcomes(self, rows: Sequence[tuple[int, Outcome]]) -> None:
        for seq, outcome in rows:
            self._last_outcome = seq
            self.outcomes.append(outcome)
            if outcome.score is not None and outcome.version in (None, self._version):
                detector = self.detectors.setdefault(outcome.agent, DegradationDetector())
                detector.update(1.0 - outcome.score)


def _renewed(detector: DegradationDetector) -> DegradationDetector:
    """A detector for another version: with the same history, unless it has raised an alarm."""
    if detector.alarm:
        return DegradationDetector()
    return DegradationDetector(history=detector.history, errors=detector.errors)
