"""`AutonomousLearner`, the front door. It owns lifecycles and delegates; no SQL, no spaCy calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asyncio_extras import call_in_executor

from karen_learner.analysis import Analyzer, SpacyAnalyzer, analyze_in_mood
from karen_learner.assembly import Ground, assemble
from karen_learner.collection import HostMemory, HostNews, ImportedLine
from karen_learner.collection.turns import check_id
from karen_learner.cycle import RequestedMode, check_mode
from karen_learner.errors import LearnerClosed, StoreReadOnly
from karen_learner.events import EventBus
from karen_learner.following import Following
from karen_learner.memory import MemoryStore, open_store
from karen_learner.models.layout import HomeLayout
from karen_learner.models.live import LiveModels
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
    UserFeedback,
)
from karen_learner.settings import LearningSettings, Settings, ThresholdSettings, TrainingSettings
from karen_learner.transfer import ExportKind, OnLines

logger = logging.getLogger(__name__)

GoldExamples = Path | str | Iterable[LabelledText | Mapping[str, Any]]


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
        self._models = models
        ground = Ground(
            settings=settings,
            layout=self.layout,
            store=self.store,
            models=models,
            analyzer=analyzer,
            events=self.events,
        )
        self._rooms = rooms = assemble(ground, start=self.start)
        self.training_pipeline = rooms.pipeline
        self._host = HostNews(self.store, memory_service)
        self._following = Following(rooms.serving, rooms.cycle, models, settings.serving)
        self._starting = asyncio.Lock()
        self._started = self._closed = False

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
                await self._rooms.cycle.recover(tenant_id)
            self._following.start()
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
        await self._following.close()
        try:
            await self._rooms.worker.close()
            await self._rooms.cycle.settle()
        finally:
            await self.store.close()
            self._models.close()

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
        metadata = await self._rooms.collector.collect(
            tenant_id,
            user_text,
            assistant_response,
            user_id,
            user_feedback,
            conversation_id=conversation_id,
            turn_id=turn_id,
            occurred_at=occurred_at,
        )
        await self._host.tell(tenant_id, metadata.turn_id)
        return metadata

    async def add_feedback(
        self, tenant_id: str, turn_id: str, feedback: UserFeedback | Mapping[str, Any]
    ) -> ConversationMetadata:
        """Merge feedback that came later into a stored turn. Raises UnknownTurn, InvalidInput."""
        await self.start()
        metadata = await self._rooms.collector.add_feedback(tenant_id, turn_id, feedback)
        await self._host.tell(tenant_id, turn_id)
        return metadata

    async def analyze(self, tenant_id: str, text: str, *, conversation_id: str | None = None) -> Analysis:
        """What the tenant's live model says of a text; nothing is stored. Raises InvalidInput.

        With its `conversation_id` it is heard as the next turn of that conversation, as far as that was
        collected.
        """
        if conversation_id is not None:
            check_id(conversation_id, "conversation_id")
        await self._serve(tenant_id)
        mood = self._rooms.collector.mood(tenant_id, conversation_id)
        return await analyze_in_mood(self.analyzer, text, tenant_id=tenant_id, mood=mood)

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
        await self._following.serve(tenant_id)

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
            report = await self._rooms.transfer.ingest(tenant_id, Path(examples))
            for line in report.skipped:
                logger.warning("%s line %d was skipped: %s", report.path, line.line, line.reason)
        else:
            await self._add_gold(tenant_id, examples)
        return await self._learn(tenant_id, mode=mode, force=True, reason="bootstrap")

    async def _learn(
        self, tenant_id: str, *, mode: RequestedMode, force: bool, reason: str | None
    ) -> LearningCycleResult:
        result = await self._rooms.cycle.run(tenant_id, mode=mode, force=force, reason=reason)
        if not self._closed:
            await self._serve(tenant_id)
        return result

    async def _add_gold(self, tenant_id: str, examples: Iterable[LabelledText | Mapping[str, Any]]) -> None:
        report = await self._rooms.curator.add_gold(tenant_id, examples)
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
        await self._rooms.overview.require(tenant_id)
        return await self._learn(tenant_id, mode=mode, force=force_training, reason=reason)

    async def plan_learning_cycle(
        self, tenant_id: str, *, force_training: bool = False, mode: RequestedMode = "auto"
    ) -> LearningPlan:
        """What `trigger_learning_cycle` would do now; nothing is changed."""
        await self.start()
        await self._rooms.overview.require(tenant_id)
        return await self._rooms.cycle.plan(tenant_id, mode=mode, force=force_training)

    async def rollback(self, tenant_id: str, version: str | None = None) -> ModelVersion:
        """Make an earlier version live again: `version`, or the one before. Raises UnknownVersion."""
        await self.start()
        await self._rooms.overview.require(tenant_id)
        return await self.training_pipeline.rollback(tenant_id, version)

    # Looking ---------------------------------------------------------------------------------

    async def status(self, tenant_id: str) -> TenantStatus:
        """What the engineer on call wants to see first. Raises UnknownTenant."""
        await self.start()
        return await self._rooms.overview.status(tenant_id)

    async def get_learning_metrics(self, tenant_id: str | None = None) -> LearningMetrics:
        """Counts over cycles; without a tenant over all of them, the operator's view, no content."""
        await self.start()
        return await self._rooms.overview.metrics(tenant_id)

    async def history(self, tenant_id: str, *, limit: int = 20) -> tuple[LearningCycleResult, ...]:
        """The newest cycles and rollbacks, newest first. Raises UnknownTenant."""
        await self.start()
        await self._rooms.overview.require(tenant_id)
        rows = await self.store.cycles(tenant_id, limit=limit)
        return tuple(row.result for row in rows if row.result is not None)

    async def versions(self, tenant_id: str, *, limit: int = 100) -> Sequence[ModelVersion]:
        """The versions, newest first. Raises UnknownTenant."""
        await self.start()
        await self._rooms.overview.require(tenant_id)
        return await self._rooms.registry.versions(tenant_id, limit=limit)

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
        return await self._rooms.transfer.ingest(tenant_id, where, on_lines=on_lines)

    async def export(self, tenant_id: str, path: Path | str, *, kind: ExportKind = "examples") -> int:
        """Write curated examples (`.jsonl`, `.spacy`) or turns (`.jsonl`); returns how many."""
        await self.start()
        await self._rooms.overview.require(tenant_id)
        return await self._rooms.transfer.export(tenant_id, Path(path), kind=kind)
