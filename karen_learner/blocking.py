"""The learner for synchronous code: scripts, Flask, Celery, notebooks.

    from karen_learner.blocking import create_autonomous_learner

    with create_autonomous_learner("./karen-home") as learner:
        learner.analyze("tenant_123", "what's my balance")

An event loop in a background thread runs the calls. Several threads can use one learner: their concurrent
calls share batches. Callbacks and subscribers of events run in the background thread.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from karen_learner.analysis import SpacyAnalyzer
from karen_learner.analysis import create_spacy_analyzer as create_async_analyzer
from karen_learner.autonomy.host_models import TrainableModel
from karen_learner.autonomy.learning_settings import LearningSystemSettings
from karen_learner.autonomy.learning_system import AutomatedLearningSystem as AsyncLearningSystem
from karen_learner.autonomy.learning_system import Troubleshooter
from karen_learner.errors import LearnerClosed, WrongEventLoop
from karen_learner.events import EventBus
from karen_learner.learner import AutonomousLearner
from karen_learner.monitoring.performance import ModelUpdater
from karen_learner.monitoring.performance import PerformanceMonitor as AsyncMonitor
from karen_learner.pipeline import IncrementalTrainingPipeline
from karen_learner.records import Alert
from karen_learner.settings import (
    LearningSettings,
    Settings,
    StrategySettings,
    ThresholdSettings,
    TrainingSettings,
)

__all__ = [
    "AutomatedLearningSystem",
    "Blocking",
    "BlockingAnalyzer",
    "BlockingLearner",
    "BlockingTrainingPipeline",
    "PerformanceMonitor",
    "Portal",
    "automated_learning_system",
    "blocking",
    "create_autonomous_learner",
    "create_spacy_analyzer",
]

P = ParamSpec("P")
T = TypeVar("T")
AsyncT = TypeVar("AsyncT")


class Portal:
    """An event loop in a background thread, which starts with the first call. Thread-safe.

    Its thread is a daemon: a program that does not close it can end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._closed = False

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a coroutine function in the loop. Ctrl-C cancels the call.

        Raises its errors, LearnerClosed after or during `close()`, and WrongEventLoop (callbacks, forks).
        """
        self._require_usable()
        with self._lock:  # so that `close` follows all calls that have begun
            loop = self._running()
            future = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop)
        try:
            return future.result()
        except CancelledError:
            raise LearnerClosed("this learner was closed during the call") from None
        except BaseException:
            future.cancel()
            raise

    def _require_usable(self) -> None:
        if self._thread is not None and self._pid != os.getpid():
            raise WrongEventLoop(
                "this blocking learner was used before the process was forked: make a new one after the fork"
            )
        if threading.current_thread() is self._thread:
            raise WrongEventLoop(
                "a callback calls the blocking learner that waits for it: call it from another thread"
            )

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise LearnerClosed("this learner was closed: create another one")
        if self._loop is None:
            self._pid = os.getpid()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="karen-blocking", daemon=True)
            self._thread.start()
        return self._loop

    def close(self) -> None:
        """Cancel unfinished calls and end the thread. Idempotent. Raises WrongEventLoop as `call`."""
        self._require_usable()
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_finish(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _finish() -> None:
    """Cancel all other tasks, and release what an event loop holds."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


class Blocking(Generic[AsyncT]):
    """The synchronous twin of an object: calls of its methods wait for those of the object in a portal."""

    def __init__(self, twin: AsyncT, portal: Portal | None = None) -> None:
        self._twin = twin
        self._portal = portal or Portal()


def blocking(
    method: Callable[Concatenate[AsyncT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[AsyncT], P], T]:
    """The method of a synchronous twin, with the parameters and the description of an async method."""

    @functools.wraps(method)
    def call(blocking: Blocking[AsyncT], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return blocking._portal.call(method, blocking._twin, *args, **kwargs)

    return call


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
        self.training_pipeline = BlockingTrainingPipeline(twin.training_pipeline, self._portal)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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


class PerformanceMonitor(Blocking[AsyncMonitor]):
    """`monitoring.performance.PerformanceMonitor` for synchronous code. Its arguments lack `store`.

    With a learner it shares the learner's background thread. Raises InvalidInput for impossible arguments.
    """

    def __init__(
        self,
        learner: BlockingLearner | None = None,
        *,
        tenant_id: str = "default",
        window_size_minutes: int = 60,
        enable_auto_retraining: bool = False,
        model_updater: ModelUpdater | None = None,
        alert_thresholds: Mapping[str, float] | None = None,
    ) -> None:
        twin = AsyncMonitor(
            learner.learner if learner is not None else None,
            tenant_id=tenant_id,
            window_size_minutes=window_size_minutes,
            enable_auto_retraining=enable_auto_retraining,
            model_updater=model_updater,
            alert_thresholds=alert_thresholds,
        )
        super().__init__(twin, learner.portal if learner is not None else None)
        self._owns_portal = learner is None
        self.record_agent_run = twin.record_agent_run
        self.record_accuracy = twin.record_accuracy
        self.get_system_metrics = twin.get_system_metrics
        self.get_stats = twin.get_stats
        self.get_alerts = twin.get_alerts
        self.generate_report = twin.generate_report

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    start = blocking(AsyncMonitor.start)
    trigger_retraining = blocking(AsyncMonitor.trigger_retraining)

    def stop(self) -> None:
        """Store the recorded outcomes, and end the monitor's task. Without a learner also the thread."""
        self._portal.call(self._twin.stop)
        if self._owns_portal:
            self._portal.close()

    def check(self) -> tuple[Alert, ...]:
        """Compare the measures with the thresholds; the new alerts."""
        return self._portal.call(_checked, self._twin)


async def _checked(monitor: AsyncMonitor) -> tuple[Alert, ...]:
    return monitor.check()


class AutomatedLearningSystem(Blocking[AsyncLearningSystem]):
    """`autonomy.learning_system.AutomatedLearningSystem` for synchronous code.

    With a learner it shares the learner's background thread. Without one, it keeps its state in memory.
    Raises SettingsError and InvalidInput.
    """

    def __init__(
        self,
        learner: BlockingLearner | None = None,
        *,
        tenant_id: str = "default",
        settings: LearningSystemSettings | Mapping[str, Any] | Path | str | None = None,
        strategies: StrategySettings | None = None,
        model: TrainableModel | None = None,
        troubleshooter: Troubleshooter | None = None,
        seed: int | None = None,
    ) -> None:
        twin = AsyncLearningSystem(
            learner.learner if learner is not None else None,
            tenant_id=tenant_id,
            settings=settings,
            strategies=strategies,
            model=model,
            troubleshooter=troubleshooter,
            seed=seed,
        )
        super().__init__(twin, learner.portal if learner is not None else None)
        self.record_attempt = twin.record_attempt
        self.recommend = twin.recommend
        self.react = twin.react
        self.strategies = twin.strategies
        self.freeze = twin.freeze
        self.unfreeze = twin.unfreeze
        self.rotate = twin.rotate
        self.analyze_performance = twin.analyze_performance

    def __enter__(self) -> Self:
        self.start_automated_learning()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_automated_learning()

    @property
    def running(self) -> bool:
        return self._twin.running

    start_automated_learning = blocking(AsyncLearningSystem.start_automated_learning)
    stop_automated_learning = blocking(AsyncLearningSystem.stop_automated_learning)
    tick = blocking(AsyncLearningSystem.tick)


automated_learning_system = AutomatedLearningSystem()
"""A learning system of this process, not started. Its state is in memory."""


class BlockingAnalyzer(Blocking[SpacyAnalyzer]):
    """`SpacyAnalyzer` for synchronous code. `create_spacy_analyzer` of this module makes one."""

    def __enter__(self) -> Self:
        self.load()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
