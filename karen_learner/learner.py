"""`AutonomousLearner`, the front door. It owns lifecycles and delegates; no SQL, no spaCy calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from asyncio_extras import call_in_executor
from typing_extensions import Self

from karen_learner.analysis import Analyzer, SpacyAnalyzer
from karen_learner.collection import ConversationMetadataCollector, ImportedLine
from karen_learner.collection.turns import check_id
from karen_learner.curation import Curator
from karen_learner.cycle import LearningCycle, RequestedMode, Rooms, check_mode
from karen_learner.deployment import Deployer, Serving
from karen_learner.errors import LearnerClosed, StoreReadOnly
from karen_learner.events import EventBus
from karen_learner.memory import MemoryStore, open_store
from karen_learner.models.layout import HomeLayout
from karen_learner.models.live import LiveModels
from karen_learner.models.registry import ModelRegistry
from karen_learner.overview import Overview
from karen_learner.pipeline import IncrementalTrainingPipeline
from karen_learner.records import (
    Analysis,
    ConversationMetadata,
    CycleMode,
    IngestReport,
    LabelledText,
    LearningCycleResult,
    LearningMetrics,
    LearningPlan,
    ModelVersion,
    TenantStatus,
    Turn,
    UserFeedback,
)
from karen_learner.settings import LearningSettings, Settings, ThresholdSettings, TrainingSettings
from karen_learner.training import BasePipeline, TrainingWorker
from karen_learner.transfer import ExportKind, OnLines, Transfer
from karen_learner.validation import ModelValidator

logger = logging.getLogger(__name__)

GoldExamples = Path | str | Iterable[LabelledText | Mapping[str, Any]]


@runtime_checkable
class HostMemory(Protocol):
    """A host's own memory: it receives every stored turn. The store stays the system of record."""

    async def remember(self, turn: Turn) -> None: ...


class AutonomousLearner:
    """Collects conversations, learns from them, and serves the model that came out best.

    Use it with `async with`, or call methods at once (it starts on first use) and `await close()`.
    All methods raise LearnerClosed afterwards. Everything lies below `home`.
    """

    def __init__(
        self,
        home: Path,
        settings: Settings,
        analyzer: Analyzer,
        *,
        models: LiveModels,
        memory_service: HostMemory | None = None,
        model_backup_dir: Path | None = None,
        store: MemoryStore | None = None,
    ) -> None:
        self.settings = settings
        self.analyzer = analyzer
        self.events = EventBus()
        self.layout = HomeLayout(home, settings.paths, model_backups=model_backup_dir)
        self.store = store or open_store(settings.store.url or self.layout.database, settings.store)
        self._host_memory = memory_service
        self._models = models
        self._compose()
        self._closed = False
        self._starting = asyncio.Lock()
        self._started = False
        self._refresher: asyncio.Task[None] | None = None
        self._served: set[str] = set()

    def _compose(self) -> None:
        settings = self.settings
        self._worker = TrainingWorker()
        registry = self._registry = ModelRegistry(self.store, self.layout)
        self._serving = Serving(registry, self._models, recheck_s=settings.serving.refresh_s)
        self._curator = Curator(self.store, settings, language=settings.training.language)
        self._collector = ConversationMetadataCollector(
            self.store, self.analyzer, settings, events=self.events
        )
        self._overview = Overview(self.store, registry, settings)
        self._transfer = Transfer(
            self.store, self._collector, self._curator, language=settings.training.language
        )
        deployer = Deployer(
            self.store,
            registry,
            self._serving,
            self.layout,
            settings,
            analyzer=self.analyzer,
            events=self.events,
        )
        self._cycle = LearningCycle(
            Rooms(
                store=self.store,
                registry=registry,
                curator=self._curator,
                worker=self._worker,
                validator=ModelValidator(settings),
                deployer=deployer,
                layout=self.layout,
                settings=settings,
                events=self.events,
                base=BasePipeline(self.analyzer, self.layout, settings.training).spec,
            )
        )
        self.training_pipeline = IncrementalTrainingPipeline(
            self._cycle, deployer, self.store, registry, self._worker, start=self.start
        )

    # Settings --------------------------------------------------------------------------------

    @property
    def learning_config(self) -> LearningSettings:
        """When and what to learn; `.update({...})` and assignment are validated."""
        return self.settings.learning

    @property
    def training_config(self) -> TrainingSettings:
        """How to train."""
        return self.settings.training

    @property
    def validation_thresholds(self) -> ThresholdSettings:
        """The scores that a model must reach; see `policy`."""
        return self.settings.thresholds

    # Lifecycle -------------------------------------------------------------------------------

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
        """Open the store, mark cycles that a crash cut off, and begin to follow the champions.

        Idempotent. Raises StoreError, or LearnerClosed after `close()`.
        """
        if self._started and not self._closed:
            return
        async with self._starting:
            if self._closed:
                raise LearnerClosed("this learner was closed: create another one")
            if self._started:
                return
            await call_in_executor(self._make_home)
            await self.store.start()
            for tenant_id in await self.store.tenants():
                await self._cycle.recover(tenant_id)
            self._refresher = asyncio.create_task(self._follow_champions())
            self._started = True

    def _make_home(self) -> None:
        try:
            self.layout.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreReadOnly(f"the home {self.layout.home} cannot be made: {error}") from error

    async def close(self) -> None:
        """End the worker, finish what is queued, close the store. Idempotent.

        A cycle that runs fails, unless it is deploying already, and is journalled before this returns.
        """
        if self._closed:
            return
        self._closed = True
        if self._refresher is not None:
            self._refresher.cancel()
            with suppress(asyncio.CancelledError):
                await self._refresher
        try:
            await self._worker.close()
            await self._cycle.settle()
        finally:
            await self.store.close()
            self._models.close()

    async def _follow_champions(self) -> None:
        """Another process may deploy, roll back or die in a cycle: notice it, serve what the row says."""
        while True:
            await asyncio.sleep(self.settings.serving.refresh_s)
            for tenant_id in list(self._served):
                if self._models.peek(tenant_id) is None:  # gave way to others: its next request loads it
                    self._served.discard(tenant_id)
                    continue
                try:
                    await self._serving.refresh(tenant_id)
                    await self._cycle.recover(tenant_id)
                except Exception:  # whatever it is, following goes on: the next round may be well again
                    logger.exception("could not look after the champion of %r", tenant_id)

    # Conversations ---------------------------------------------------------------------------

    async def collect_conversation_metadata(
        self,
        tenant_id: str,
        user_text: str,
        assistant_response: str,
        user_id: str,
        user_feedback: UserFeedback | Mapping[str, Any] | None = None,
        *,
        conversation_id: str | None = None,
        turn_id: str | None = None,
        occurred_at: datetime | None = None,
    ) -> ConversationMetadata:
        """Analyse and store one turn; it is on disk when this returns.

        A repeated `turn_id` is the same turn: stored once, later feedback is merged in. Raises
        InvalidInput, with nothing stored.
        """
        await self._serve(tenant_id)
        metadata = await self._collector.collect(
            tenant_id,
            user_text,
            assistant_response,
            user_id,
            user_feedback,
            conversation_id=conversation_id,
            turn_id=turn_id,
            occurred_at=occurred_at,
        )
        await self._tell_host(tenant_id, metadata.turn_id)
        return metadata

    async def add_feedback(
        self, tenant_id: str, turn_id: str, feedback: UserFeedback | Mapping[str, Any]
    ) -> ConversationMetadata:
        """Merge feedback that came later into a stored turn. Raises UnknownTurn, InvalidInput."""
        await self.start()
        metadata = await self._collector.add_feedback(tenant_id, turn_id, feedback)
        await self._tell_host(tenant_id, turn_id)
        return metadata

    async def analyze(self, tenant_id: str, text: str) -> Analysis:
        """What the tenant's live model says of a text; nothing is stored. Raises InvalidInput."""
        await self._serve(tenant_id)
        return await self.analyzer.analyze(text, tenant_id=tenant_id)

    async def analyze_many(self, tenant_id: str, texts: Sequence[str]) -> list[Analysis]:
        """The same for many texts at once."""
        await self._serve(tenant_id)
        if isinstance(self.analyzer, SpacyAnalyzer):
            return await self.analyzer.analyze_many(texts, tenant_id=tenant_id)
        return list(
            await asyncio.gather(*(self.analyzer.analyze(text, tenant_id=tenant_id) for text in texts))
        )

    async def _serve(self, tenant_id: str) -> None:
        check_id(tenant_id, "tenant_id")
        if self._closed or not self._started:
            await self.start()
        if await self._serving.ensure(tenant_id) is not None:
            self._served.add(tenant_id)

    async def _tell_host(self, tenant_id: str, turn_id: str) -> None:
        if self._host_memory is None:
            return
        turn = await self.store.get_turn(tenant_id, turn_id)
        if turn is None:
            return
        try:
            await self._host_memory.remember(turn)
        except Exception:  # a host's memory is foreign code: the turn is safe in the store
            logger.exception("the host's memory failed on turn %s", turn_id)

    # Learning --------------------------------------------------------------------------------

    async def bootstrap(
        self, tenant_id: str, examples: GoldExamples, *, mode: CycleMode = "full"
    ) -> LearningCycleResult:
        """The first model of a tenant from labelled texts (records, dicts, or a path).

        Called again it adds gold examples. An example that cannot be used is left out and logged with
        its position or line. Raises LabelCollision, ImportFormatError.
        """
        check_id(tenant_id, "tenant_id")
        check_mode(mode)
        await self.start()
        if isinstance(examples, (str, Path)):
            report = await self._transfer.ingest(tenant_id, Path(examples))
            for line in report.skipped:
                logger.warning("%s line %d was skipped: %s", report.path, line.line, line.reason)
        else:
            await self._add_gold(tenant_id, examples)
        return await self._learn(tenant_id, mode=mode, force=True, reason="bootstrap")

    async def _learn(
        self, tenant_id: str, *, mode: RequestedMode, force: bool, reason: str | None
    ) -> LearningCycleResult:
        result = await self._cycle.run(tenant_id, mode=mode, force=force, reason=reason)
        if not self._closed:
            await self._serve(tenant_id)
        return result

    async def _add_gold(self, tenant_id: str, examples: Iterable[LabelledText | Mapping[str, Any]]) -> None:
        report = await self._curator.add_gold(tenant_id, examples)
        if report.skipped:
            first = report.skipped[0]
            logger.warning(
                "%d examples were left out, the first at position %d: %s",
                report.skipped_count, first.line, first.reason,
            )  # fmt: skip

    async def trigger_learning_cycle(
        self,
        tenant_id: str,
        *,
        force_training: bool = False,
        mode: RequestedMode = "auto",
        reason: str | None = None,
    ) -> LearningCycleResult:
        """Curate, train, validate, and deploy or keep the champion. A bad cycle is a result.

        `force_training` learns from fewer examples than `learning_config.min_data_threshold`. Raises
        UnknownTenant, StoreError; what is raised carries `backup_path`.
        """
        await self.start()
        await self._overview.require(tenant_id)
        return await self._learn(tenant_id, mode=mode, force=force_training, reason=reason)

    async def plan_learning_cycle(
        self, tenant_id: str, *, force_training: bool = False, mode: RequestedMode = "auto"
    ) -> LearningPlan:
        """What `trigger_learning_cycle` would do now; nothing is changed."""
        await self.start()
        await self._overview.require(tenant_id)
        return await self._cycle.plan(tenant_id, mode=mode, force=force_training)

    async def rollback(self, tenant_id: str, version: str | None = None) -> ModelVersion:
        """Make an earlier version live again: `version`, or the one before. Raises UnknownVersion."""
        await self.start()
        await self._overview.require(tenant_id)
        return await self.training_pipeline.rollback(tenant_id, version)

    # Looking ---------------------------------------------------------------------------------

    async def status(self, tenant_id: str) -> TenantStatus:
        """What the engineer on call wants to see first. Raises UnknownTenant."""
        await self.start()
        return await self._overview.status(tenant_id)

    async def get_learning_metrics(self, tenant_id: str | None = None) -> LearningMetrics:
        """Counts over cycles; without a tenant over all of them, the operator's view, no content."""
        await self.start()
        return await self._overview.metrics(tenant_id)

    async def history(self, tenant_id: str, *, limit: int = 20) -> tuple[LearningCycleResult, ...]:
        """The newest cycles and rollbacks, newest first. Raises UnknownTenant."""
        await self.start()
        await self._overview.require(tenant_id)
        rows = await self.store.cycles(tenant_id, limit=limit)
        return tuple(row.result for row in rows if row.result is not None)

    async def versions(self, tenant_id: str, *, limit: int = 100) -> Sequence[ModelVersion]:
        """The versions, newest first. Raises UnknownTenant."""
        await self.start()
        await self._overview.require(tenant_id)
        return await self._registry.versions(tenant_id, limit=limit)

    async def tenants(self) -> Sequence[str]:
        """All tenants of this store."""
        await self.start()
        return await self.store.tenants()

    # Files -----------------------------------------------------------------------------------

    async def ingest(
        self,
        tenant_id: str,
        source: Path | str | AsyncIterator[ImportedLine],
        *,
        on_lines: OnLines | None = None,
    ) -> IngestReport:
        """Import turns or gold examples from a file (`.jsonl`, `.csv`, `.spacy`) or a stream.

        Gold examples wait for the next cycle. Raises ImportFormatError, LabelCollision.
        """
        await self._serve(tenant_id)
        where = Path(source) if isinstance(source, str) else source
        return await self._transfer.ingest(tenant_id, where, on_lines=on_lines)

    async def export(self, tenant_id: str, path: Path | str, *, kind: ExportKind = "examples") -> int:
        """Write curated examples (`.jsonl`, `.spacy`) or turns (`.jsonl`); returns how many."""
        await self.start()
        await self._overview.require(tenant_id)
        return await self._transfer.export(tenant_id, Path(path), kind=kind)
