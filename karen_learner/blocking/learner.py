"""The learner and the analyzer for synchronous code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, Self, TypeVar

from karen_learner.analysis import SpacyAnalyzer
from karen_learner.analysis import create_spacy_analyzer as create_async_analyzer
from karen_learner.blocking.portal import Blocking, Portal, blocking
from karen_learner.blocking.reports import ReportManager
from karen_learner.errors import LearnerClosed
from karen_learner.events import EventBus
from karen_learner.learner import AutonomousLearner
from karen_learner.pipeline import IncrementalTrainingPipeline
from karen_learner.settings import LearningSettings, Settings, ThresholdSettings, TrainingSettings

P = ParamSpec("P")
T = TypeVar("T")
AsyncT = TypeVar("AsyncT")


class BlockingTrainingPipeline(Blocking[IncrementalTrainingPipeline]):
    """Learning cycles and rollbacks, as `IncrementalTrainingPipeline`."""

    warm_up = blocking(IncrementalTrainingPipeline.warm_up)
    run = blocking(IncrementalTrainingPipeline.run)
    rollback = blocking(IncrementalTrainingPipeline.rollback)
    rollback_model = blocking(IncrementalTrainingPipeline.rollback_model)

    @property
    def worker_pid(self) -> int | None:
        """The process id of the training worker, if one runs."""
        return self._twin.worker_pid


class BlockingLearner(Blocking[AutonomousLearner]):
    """`AutonomousLearner` for synchronous code. `create_autonomous_learner` of this module makes one.

    Use it with `with`, or call its methods (the first call starts it) and `close()`. `portal.call` runs other
    coroutine functions, for example those of `learner.store`, in its event loop.
    """

    def __init__(self, twin: AutonomousLearner, portal: Portal | None = None) -> None:
        super().__init__(twin, portal)
        self.reports = ReportManager.of(twin.reports, self._portal)
        self.training_pipeline = BlockingTrainingPipeline(twin.training_pipeline, self._portal)

    def __enter__(self) -> Self:
        self.start()
        return self

    def close(self) -> None:
        """Close the learner, as `AutonomousLearner.close`, and end the background thread. Idempotent."""
        try:
            self._portal.call(self._twin.close)
        except LearnerClosed:
            return
        finally:
            self._portal.close()

    @property
    def learner(self) -> AutonomousLearner:
        """The async learner. Use it in the event loop of `portal` only."""
        return self._twin

    @property
    def portal(self) -> Portal:
        return self._portal

    @property
    def settings(self) -> Settings:
        return self._twin.settings

    @property
    def learning_config(self) -> LearningSettings:
        """Settings of curation and of cycles."""
        return self._twin.learning_config

    @property
    def training_config(self) -> TrainingSettings:
        """Settings of training."""
        return self._twin.training_config

    @property
    def validation_thresholds(self) -> ThresholdSettings:
        """Minimum scores of a model."""
        return self._twin.validation_thresholds

    @property
    def events(self) -> EventBus:
        """Events. Subscribers are called in the background thread."""
        return self._twin.events

    def use_sampler(self, tenant_id: str, name: str) -> None:
        """Select the examples of a tenant's cycles by this sampler, in place of `learning.sampler`."""
        self._twin.use_sampler(tenant_id, name)

    start = blocking(AutonomousLearner.start)
    collect_conversation_metadata = blocking(AutonomousLearner.collect_conversation_metadata)
    add_feedback = blocking(AutonomousLearner.add_feedback)
    log_decision = blocking(AutonomousLearner.log_decision)
    ingest_decisions = blocking(AutonomousLearner.ingest_decisions)
    erase_decisions = blocking(AutonomousLearner.erase_decisions)
    erase_user = blocking(AutonomousLearner.erase_user)
    analyze = blocking(AutonomousLearner.analyze)
    analyze_many = blocking(AutonomousLearner.analyze_many)
    bootstrap = blocking(AutonomousLearner.bootstrap)
    trigger_learning_cycle = blocking(AutonomousLearner.trigger_learning_cycle)
    plan_learning_cycle = blocking(AutonomousLearner.plan_learning_cycle)
    rollback = blocking(AutonomousLearner.rollback)
    repair = blocking(AutonomousLearner.repair)
    backup = blocking(AutonomousLearner.backup)
    prune = blocking(AutonomousLearner.prune)
    quarantine = blocking(AutonomousLearner.quarantine)
    version = blocking(AutonomousLearner.version)
    release = blocking(AutonomousLearner.release)
    discard = blocking(AutonomousLearner.discard)
    labels = blocking(AutonomousLearner.labels)
    rename_label = blocking(AutonomousLearner.rename_label)
    merge_labels = blocking(AutonomousLearner.merge_labels)
    retire_label = blocking(AutonomousLearner.retire_label)
    status = blocking(AutonomousLearner.status)
    health = blocking(AutonomousLearner.health)
    doctor = blocking(AutonomousLearner.doctor)
    get_learning_metrics = blocking(AutonomousLearner.get_learning_metrics)
    report = blocking(AutonomousLearner.report)
    history = blocking(AutonomousLearner.history)
    cycle = blocking(AutonomousLearner.cycle)
    journal = blocking(AutonomousLearner.journal)
    example_texts = blocking(AutonomousLearner.example_texts)
    versions = blocking(AutonomousLearner.versions)
    note_version = blocking(AutonomousLearner.note_version)
    package = blocking(AutonomousLearner.package)
    evaluate = blocking(AutonomousLearner.evaluate)
    compare = blocking(AutonomousLearner.compare)
    tenants = blocking(AutonomousLearner.tenants)
    ingest = blocking(AutonomousLearner.ingest)
    check_data = blocking(AutonomousLearner.check_data)
    export = blocking(AutonomousLearner.export)


class BlockingAnalyzer(Blocking[SpacyAnalyzer]):
    """`SpacyAnalyzer` for synchronous code. `create_spacy_analyzer` of this module makes one."""

    def __enter__(self) -> Self:
        self.load()
        return self

    def close(self) -> None:
        """Close the models, and end the background thread. Idempotent."""
        self._twin.close()
        self._portal.close()

    load = blocking(SpacyAnalyzer.load)
    analyze = blocking(SpacyAnalyzer.analyze)
    analyze_many = blocking(SpacyAnalyzer.analyze_many)
    detect_intent = blocking(SpacyAnalyzer.detect_intent)
    sentiment = blocking(SpacyAnalyzer.sentiment)
    entities = blocking(SpacyAnalyzer.entities)


def _twins(twin: Callable[[AsyncT], T], create: Callable[P, AsyncT]) -> Callable[P, T]:
    """The function that creates a synchronous twin, with the parameters of `create`."""

    def create_twin(*args: P.args, **kwargs: P.kwargs) -> T:
        return twin(create(*args, **kwargs))

    return functools.update_wrapper(create_twin, create, updated=())


create_autonomous_learner = _twins(BlockingLearner, AutonomousLearner)
create_spacy_analyzer = _twins(BlockingAnalyzer, create_async_analyzer)
