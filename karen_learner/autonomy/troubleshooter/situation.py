"""The situation of a tenant or of the home at one time: everything that diagnoses read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Protocol

from karen_learner.contracts import MemoryStore
from karen_learner.errors import KarenLearnerError
from karen_learner.events import EventBus
from karen_learner.monitoring.retraining import CycleLearner
from karen_learner.monitoring.trends import History
from karen_learner.records import (
    Analysis,
    HomeHealth,
    LearningCycleResult,
    ModelVersion,
    Outcome,
    PruneReport,
    RepairReport,
    TenantStatus,
)
from karen_learner.records.readings import Reading
from karen_learner.records.strategies import StrategyState
from karen_learner.settings import Settings

MAX_RESULTS = 20
MAX_OUTCOMES = 500
OUTCOMES_FOR = timedelta(days=7)
PROBED_PER_LABEL = 5
PROBED_LABELS = 60


class Upkeep(Protocol):
    """Repairs of a home in use. `maintenance.Maintenance` is one."""

    async def restart_worker(self) -> bool: ...

    async def recover(self, tenant_id: str) -> None: ...

    async def reload(self, tenant_id: str) -> bool: ...

    async def set_aside(self, tenant_id: str, example_ids: Sequence[str]) -> int: ...


class Mendable(CycleLearner, Protocol):
    """The part of a learner that diagnoses read and remedies change. `AutonomousLearner` is one."""

    settings: Settings
    store: MemoryStore
    events: EventBus

    @property
    def maintenance(self) -> Upkeep: ...

    async def start(self) -> None: ...

    async def tenants(self) -> Sequence[str]: ...

    async def status(self, tenant_id: str, *, load: bool = False) -> TenantStatus: ...

    async def health(self) -> HomeHealth: ...

    async def history(self, tenant_id: str, *, limit: int = 20) -> tuple[LearningCycleResult, ...]: ...

    async def repair(self, tenant_id: str, *, dry_run: bool = False) -> RepairReport: ...

    async def prune(self, tenant_id: str, *, dry_run: bool = False) -> PruneReport: ...

    async def rollback(self, tenant_id: str, version: str | None = None) -> ModelVersion: ...

    async def analyze_many(self, tenant_id: str, texts: Sequence[str]) -> list[Analysis]: ...


class Stream(Protocol):
    """A stream of events that can be restarted. `RealTimeModelUpdater` is one."""

    def get_metrics(self) -> Any: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A snapshot. Of the home alone, `tenant_id` and `status` are None.

    `results` are the newest cycles and rollbacks that were not skipped, newest first. `after` is the time of
    the last remedy, and `seen_cycle` the newest cycle then. Earlier evidence does not show the effect of the
    remedy. `probe` maps intents to the share of their sampled gold that the live model answers right.
    """

    tenant_id: str | None
    now: datetime
    settings: Settings
    home: HomeHealth
    database: tuple[int, int] = (0, 0)
    readings: Mapping[str, Reading] = field(default_factory=dict)
    histories: Mapping[str, History] = field(default_factory=dict)
    status: TenantStatus | None = None
    repair: RepairReport | None = None
    results: Sequence[LearningCycleResult] = ()
    outcomes: Sequence[Outcome] = ()
    strategies: StrategyState = field(default_factory=StrategyState)
    probe: Mapping[str, float] | None = None
    progress_at: datetime | None = None
    stream: Mapping[str, Any] | None = None
    after: datetime | None = None
    seen_cycle: str | None = None

    def since(self, moment: datetime | None, seen_cycle: str | None) -> Situation:
        """The situation as far as it tells about the time after a remedy, and after a cycle."""
        return replaced(self, after=moment, seen_cycle=seen_cycle)

    @property
    def newest_cycle(self) -> str | None:
        """The id of the newest cycle or rollback."""
        return self.results[0].cycle_id if self.results else None

    @property
    def later_results(self) -> Sequence[LearningCycleResult]:
        """The results of cycles that began after the last remedy, newest first.

        Told by their order: the clock of a service and that of a worker may differ.
        """
        return list(takewhile(lambda one: one.cycle_id != self.seen_cycle, self.results))

    @property
    def is_retrained(self) -> bool:
        """Whether a cycle after the last remedy has deployed a version."""
        return self.after is not None and any(one.status == "deployed" for one in self.later_results)

    @property
    def attempts(self) -> Sequence[bool]:
        """The success of attempts after the last remedy, oldest first."""
        known = (one for one in self.outcomes if self.after is None or one.known_at > self.after)
        return [one.success for one in known if one.success is not None]


@dataclass(eq=False)
class Observer:
    """Makes situations. It keeps probes of a version, and the newest progress of running cycles."""

    learner: Mendable
    stream: Stream | None = None
    _probes: dict[str, tuple[str, Mapping[str, float]]] = field(default_factory=dict)
    progress: dict[str, datetime] = field(default_factory=dict)

    async def home(self, now: datetime, histories: Mapping[str, History]) -> Situation:
        """The situation of the home. Raises StoreError."""
        stream = None
        if self.stream is not None:
            metrics = self.stream.get_metrics()
            stream = dict(metrics.to_dict() if hasattr(metrics, "to_dict") else metrics)
        return Situation(
            tenant_id=None,
            now=now,
            settings=self.learner.settings,
            home=await self.learner.health(),
            database=await self.learner.store.page_use(),
            histories=histories,
            stream=stream,
        )

    async def tenant(
        self,
        tenant_id: str,
        home: Situation,
        readings: Mapping[str, Reading],
        histories: Mapping[str, History],
    ) -> Situation:
        """The situation of a tenant. Raises StoreError."""
        store, now = self.learner.store, home.now
        repair = await self.learner.repair(tenant_id, dry_run=True)  # before a request restores the files
        status = await self.learner.status(tenant_id)
        history = await self.learner.history(tenant_id, limit=MAX_RESULTS)
        return replaced(
            home,
            tenant_id=tenant_id,
            readings=readings,
            histories=histories,
            status=status,
            repair=repair,
            results=[one for one in history if one.status != "skipped"],
            outcomes=await store.newest_outcomes(tenant_id, since=now - OUTCOMES_FOR, limit=MAX_OUTCOMES),
            strategies=await store.strategies(tenant_id),
            probe=await self._probe(tenant_id, status),
            progress_at=self.progress.get(tenant_id),
        )

    async def _probe(self, tenant_id: str, status: TenantStatus) -> Mapping[str, float] | None:
        """The share of right answers for sampled gold of each intent, once for each version that serves."""
        version = status.health.version
        if version is None or status.health.served_by != "model":
            return None
        kept = self._probes.get(tenant_id)
        if kept is None or kept[0] != version:
            kept = self._probes[tenant_id] = (version, await self._answers(tenant_id))
        return kept[1]

    async def _answers(self, tenant_id: str) -> Mapping[str, float]:
        texts: dict[str, list[str]] = {}
        async for one in self.learner.store.examples(tenant_id, state="learned", gold=True):
            if one.intent is None or (one.intent not in texts and len(texts) >= PROBED_LABELS):
                continue
            mine = texts.setdefault(one.intent, [])
            if len(mine) < PROBED_PER_LABEL:
                mine.append(one.text)
        asked = [(label, text) for label, group in texts.items() if len(group) > 2 for text in group]
        try:
            found = await self.learner.analyze_many(tenant_id, [text for _, text in asked])
        except KarenLearnerError:
            return {}
        right: dict[str, list[bool]] = {}
        for (label, _), answer in zip(asked, found, strict=True):
            right.setdefault(label, []).append(answer.intent == label)
        return {label: sum(answers) / len(answers) for label, answers in right.items()}
