"""The parts of a learner: how they are built, started and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, Self, cast

from asyncio_extras import call_in_executor

from karen_learner import memory
from karen_learner.analysis import create_spacy_analyzer
from karen_learner.analysis.spacy_analyzer import SpacyAnalyzer, live_models_of
from karen_learner.collection import ConversationMetadataCollector
from karen_learner.collection.turns import CharacterSanitizer
from karen_learner.components.lexical.lookups import word_tables
from karen_learner.concurrency import LoopBinding
from karen_learner.contracts import Clock, Gate, MemoryStore, Sanitizer, TrainingBackend
from karen_learner.corpora.transfer import Transfer
from karen_learner.curation import Curator
from karen_learner.curation.alignment import ServedTokenizers
from karen_learner.curation.label_editor import LabelEditor
from karen_learner.curation.review import ReviewDesk
from karen_learner.cycle import CyclePlanner, LearningCycle
from karen_learner.deployment import ChampionSync, Deployer, Rollback
from karen_learner.disk import make_folder
from karen_learner.doctor import Doctor
from karen_learner.errors import (
    LearnerClosed,
    StoreFull,
    StoreReadOnly,
    TrainingError,
    UnknownTenant,
)
from karen_learner.events import EventBus, ModelUnloaded
from karen_learner.improvement.production_log import ProductionLog
from karen_learner.integrations import as_analyzer, as_host_memory, as_store
from karen_learner.models.base_versions import read_base
from karen_learner.models.files import HomeLayout
from karen_learner.models.live import LiveModel
from karen_learner.models.loading import require_tokenizer
from karen_learner.models.user_code import import_code
from karen_learner.models.versions import ModelRegistry
from karen_learner.monitoring.evaluator import Evaluator
from karen_learner.monitoring.serving import ServingHealth
from karen_learner.monitoring.status import Overview
from karen_learner.pipeline import IncrementalTrainingPipeline
from karen_learner.records import (
    check_id,
    utc_now,
)
from karen_learner.repair import Maintenance, Repair
from karen_learner.reports import ReportManager
from karen_learner.settings import (
    LearningSettings,
    Settings,
    ThresholdSettings,
    TrainingSettings,
    as_settings,
)
from karen_learner.training import BasePipeline, LocalWorker
from karen_learner.training.stage import TrainingStage
from karen_learner.validation import Evidence, ModelValidator
from karen_learner.validation.stage import ValidationStage

logger = logging.getLogger(__name__)


class LearnerLifecycle:
    """Builds the parts of a learner, starts them at first use, and closes them."""

    def __init__(
        self,
        home: Path | str = ".",
        *,
        spacy_analyzer: object | None = None,
        memory_service: object | None = None,
        model_backup_dir: Path | str | None = None,
        settings: Settings | Path | str | None = None,
        overrides: Mapping[str, Any] | None = None,
        store: MemoryStore | None = None,
        backend: TrainingBackend | None = None,
        gate: Gate[Evidence] | None = None,
        sanitizer: Sanitizer | None = None,
        read_only: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        self._reads_only = read_only
        self._clock = clock
        self.settings = as_settings(settings, overrides=overrides)
        self.events = EventBus()
        self.layout = HomeLayout(home, self.settings.paths, model_backups=model_backup_dir)
        place = self.settings.store.url or self.layout.database
        self.store = (
            memory.open_store(place, self.settings.store, clock=clock, read_only=read_only)
            if store is None
            else as_store(store)
        )
        if spacy_analyzer is None:
            base = read_base(self.layout)
            spacy_analyzer = create_spacy_analyzer(
                None if base is None else self.layout.base(base.name),
                tasks=None if base is None else base.tasks,
                language=self.settings.training.language,
                settings=self.settings,
            )
        self.analyzer = as_analyzer(spacy_analyzer)
        self._backend: TrainingBackend = backend or LocalWorker(self.settings.training)
        self._memory = as_host_memory(memory_service) if memory_service is not None else None
        self._loop = LoopBinding(f"the learner of {self.layout.home}")
        self._starting = asyncio.Lock()
        self._state: Literal["new", "started", "closed"] = "new"
        self._build(gate, sanitizer)

    def _build(self, gate: Gate[Evidence] | None, sanitizer: Sanitizer | None) -> None:
        """Make the parts. Nothing is opened or started."""
        settings, store = self.settings, self.store
        self._models = live_models_of(self.analyzer, settings.analysis)
        self._models.on_unload.append(self._publish_unloaded)
        self._registry = ModelRegistry(store, self.layout)
        self._champions = ChampionSync(
            store, self._registry, self._models, settings.serving, analyzer=self.analyzer, now=self._clock
        )
        serving = ServingHealth(self.analyzer, self._models, self._champions)
        self._overview = Overview(store, self._registry, settings, serving=serving, clock=self._clock)
        self._evaluator = Evaluator(store, self._registry, self.layout, settings)
        self._build_data(sanitizer)
        self._build_cycle(gate)
        self.reports = ReportManager(
            self.layout.report_root, currency=settings.reports.currency, clock=self._clock
        )

    def _build_data(self, sanitizer: Sanitizer | None) -> None:
        """Make the parts that collect and curate data."""
        settings, store = self.settings, self.store
        self._collector = ConversationMetadataCollector(
            store, self.analyzer, settings, events=self.events, sanitizer=sanitizer, clock=self._clock
        )
        base_model = self.analyzer.base_with_tasks if isinstance(self.analyzer, SpacyAnalyzer) else None
        tokenizers = ServedTokenizers(self._registry, base_model)
        self._curator = Curator(store, settings, tokenizers=tokenizers)
        self._labels = LabelEditor(store, self._curator)
        self.review_desk = ReviewDesk(store, self._curator, clock=self._clock)
        self._log = ProductionLog(
            cast("memory.SqlMemoryStore", store),
            settings.store,
            sanitizer=sanitizer or CharacterSanitizer(),
            clock=self._clock,
        )
        self._transfer = Transfer(
            store,
            add_turn=self._collector.collect_input,
            add_gold=self._curator.add_gold,
            language=settings.training.language,
            tokenizers=tokenizers,
        )

    def _build_cycle(self, gate: Gate[Evidence] | None) -> None:
        """Make the parts that train, validate, deploy and repair."""
        settings, store, events, layout = self.settings, self.store, self.events, self.layout
        registry, champions, curator = self._registry, self._champions, self._curator
        self._planner = CyclePlanner(store, registry, curator, settings)
        validator = ModelValidator(settings)
        base = BasePipeline(self.analyzer, layout, settings.training)
        deployer = Deployer(store, registry, champions, layout, settings, events=events, clock=self._clock)
        self._cycle = LearningCycle(
            store,
            registry,
            planner=self._planner,
            curator=curator,
            training=TrainingStage(self._backend, curator, store, layout, settings, base=base, events=events),
            validation=ValidationStage(self._backend, validator, gate or validator, store, layout, settings),
            deployer=deployer,
            settings=settings.learning,
            events=events,
            clock=self._clock,
        )
        self._repair = Repair(store, registry, champions, deployer, self._cycle)
        self._doctor = Doctor(store, registry, champions, self._repair, layout)
        self.maintenance = Maintenance(store, self._backend, self._cycle, champions)
        rollback = Rollback(store, registry, champions, events=events)
        self.training_pipeline = IncrementalTrainingPipeline(self._cycle, rollback, self._backend, self.start)

    def _publish_unloaded(self, tenant_id: str, model: LiveModel, setting: str) -> None:
        self.events.publish(ModelUnloaded(tenant_id=tenant_id, version=model.version, reason=setting))

    # Settings --------------------------------------------------------------------------------

    @property
    def learning_config(self) -> LearningSettings:
        """Settings of curation and of cycles. `.update({...})` and assignment are validated."""
        return self.settings.learning

    @property
    def training_config(self) -> TrainingSettings:
        """Settings of training."""
        return self.settings.training

    @property
    def validation_thresholds(self) -> ThresholdSettings:
        """Minimum scores of a model; see `policy`."""
        return self.settings.thresholds

    # Lifecycle -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the store, journal cycles of crashed processes, and start the sync of champions.

        Idempotent. Raises StoreError, SettingsError (training.imports, training.language), LearnerClosed
        after `close()`, or WrongEventLoop.
        """
        if self._is_started():
            return
        async with self._starting:
            if self._is_started():
                return
            try:
                await self._open()
            except BaseException:
                self._loop.release()
                raise
            self._state = "started"

    async def _open(self) -> None:
        await call_in_executor(import_code, self.settings.training.imports)
        await call_in_executor(require_tokenizer, self.settings.training.language)
        if not self._reads_only:
            await call_in_executor(self._make_home)
        await self.store.start()
        if self.store.read_only is not None and not self._reads_only:
            await self._clear_abandoned()
        for tenant_id in await self.store.unfinished_tenants():
            await self._recover(tenant_id)
        self._champions.start(self._recover)

    async def _clear_abandoned(self) -> None:
        """Make room on a full disk."""
        for tenant_id in await self.store.tenants():
            try:
                await self._cycle.clear_abandoned(tenant_id)
            except OSError as error:  # a read-only disk
                logger.warning("candidates of crashed cycles of %r cannot be removed: %s", tenant_id, error)
        await self.store.start()

    async def _recover(self, tenant_id: str) -> None:
        """Journal crashed cycles and remove their files, if the home can be written."""
        if self._reads_only:
            return
        try:
            await self._cycle.recover(tenant_id)
        except (StoreReadOnly, StoreFull) as error:
            logger.warning("a crashed cycle of %r cannot be journalled yet: %s", tenant_id, error)

    def _is_started(self) -> bool:
        if self._state == "closed":
            raise LearnerClosed("this learner was closed: create another one")
        self._loop.check()
        return self._state == "started"

    def _make_home(self) -> None:
        try:
            make_folder(self.layout.home)
        except OSError as error:
            raise StoreReadOnly(f"the home {self.layout.home} cannot be created: {error}") from error

    async def close(self) -> None:
        """Stop the worker, finish queued writes and events, close the store. Idempotent.

        A running cycle fails, unless it is deploying already, and is journalled before this returns.
        """
        if self._state == "started":
            self._loop.check()
        async with self._starting:
            if self._state == "closed":
                return
            self._state = "closed"
        self._models.on_unload.remove(self._publish_unloaded)
        async with AsyncExitStack() as closing:  # closes in reverse order, each part even if another fails
            closing.callback(self._models.close)
            closing.push_async_callback(self.store.close)
            closing.push_async_callback(self.events.close)
            closing.push_async_callback(self._log.close)
            closing.push_async_callback(self._cycle.wait)
            closing.push_async_callback(self._backend.close)
            closing.push_async_callback(self._champions.close)

    # Use of a tenant --------------------------------------------------------------------------

    async def _serve(self, tenant_id: str) -> None:
        """Load the tenant's champion if needed. A turn needs no other look-up before its analysis."""
        check_id(tenant_id, "tenant_id")
        if not self._is_started():
            await self.start()
        if self._models.get(tenant_id) is None:
            await self._champions.ensure(tenant_id)

    async def _require(self, tenant_id: str) -> None:
        """Start. Raises InvalidInput, and UnknownTenant if the store has no data of the tenant."""
        check_id(tenant_id, "tenant_id")
        await self.start()
        counts = await self.store.counts(tenant_id)
        if not (counts.turns or counts.cycles or sum(counts.examples.values())):
            raise UnknownTenant(
                f"nothing is stored for the tenant {tenant_id!r}: bootstrap it with labelled texts, "
                "or collect a turn"
            )

    async def _start_worker(self) -> None:
        """Let the worker import spaCy, and a thread read the word tables, while examples are selected."""
        language = self.settings.training.language
        self._tables = asyncio.get_running_loop().run_in_executor(None, word_tables, language)
        try:
            await self._backend.start()
        except TrainingError as error:
            logger.debug("the worker is not started ahead, the training tries again: %s", error)
