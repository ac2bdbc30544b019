"""The monitor, the model updater, the learning system and the retrainer for synchronous code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Self

from karen_learner.autonomy.host_models import TrainableModel
from karen_learner.autonomy.learning_settings import LearningSystemSettings
from karen_learner.autonomy.learning_system import AutomatedLearningSystem as AsyncLearningSystem
from karen_learner.autonomy.learning_system import Troubleshooter
from karen_learner.autonomy.retrainer import AutomatedRetrainer as AsyncRetrainer
from karen_learner.autonomy.retrainer import RetrainMode
from karen_learner.autonomy.stream import RealTimeModelUpdater as AsyncUpdater
from karen_learner.autonomy.stream import UpdateStrategy
from karen_learner.blocking.learner import BlockingLearner
from karen_learner.blocking.portal import Blocking, blocking
from karen_learner.contracts import Clock
from karen_learner.learner import AutonomousLearner
from karen_learner.monitoring.performance import PerformanceMonitor as AsyncMonitor
from karen_learner.monitoring.retraining import ModelUpdater
from karen_learner.records import Alert, utc_now
from karen_learner.settings import Settings, StrategySettings

P = ParamSpec("P")


class RealTimeModelUpdater(Blocking[AsyncUpdater]):
    """`autonomy.stream.RealTimeModelUpdater` for synchronous code. Its arguments lack `store` and `clock`.

    With a learner it shares the learner's background thread. Raises InvalidInput for impossible arguments.
    """

    def __init__(
        self,
        kafka_servers: str | Sequence[str] | None = None,
        kafka_topic: str = "agent-outcomes",
        *,
        learner: BlockingLearner | None = None,
        tenant_id: str = "default",
        batch_size: int = 10,
        batch_timeout_seconds: float = 30,
        model_storage_path: Path | str = "./models",
        enable_auto_save: bool = True,
        save_interval_seconds: float = 300,
        update_strategy: UpdateStrategy = UpdateStrategy.EXPONENTIAL,
        settings: Settings | None = None,
    ) -> None:
        twin = AsyncUpdater(
            kafka_servers,
            kafka_topic,
            learner=learner.learner if learner is not None else None,
            tenant_id=tenant_id,
            batch_size=batch_size,
            batch_timeout_seconds=batch_timeout_seconds,
            model_storage_path=model_storage_path,
            enable_auto_save=enable_auto_save,
            save_interval_seconds=save_interval_seconds,
            update_strategy=update_strategy,
            settings=settings,
        )
        super().__init__(twin, learner.portal if learner is not None else None)
        self.get_metrics = twin.get_metrics
        self.recommend = twin.recommend

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._twin.running

    start = blocking(AsyncUpdater.start)
    submit = blocking(AsyncUpdater.submit)
    retrain = blocking(AsyncUpdater.retrain)

    def stop(self) -> None:
        """Process the inbox, and end the updater. Without a learner also the thread, for good."""
        self._portal.call(self._twin.stop)
        self.close()


class PerformanceMonitor(Blocking[AsyncMonitor]):
    """`monitoring.performance.PerformanceMonitor` for synchronous code. Its arguments lack `store`.

    With a learner, or with an updater of this module, it shares their background thread; the learner of an
    updater must be the same one. Raises InvalidInput for impossible arguments.
    """

    def __init__(
        self,
        learner: BlockingLearner | None = None,
        *,
        tenant_id: str = "default",
        window_size_minutes: int = 60,
        enable_auto_retraining: bool = False,
        model_updater: ModelUpdater | RealTimeModelUpdater | None = None,
        alert_thresholds: Mapping[str, float] | None = None,
    ) -> None:
        updater = model_updater if isinstance(model_updater, RealTimeModelUpdater) else None
        twin = AsyncMonitor(
            learner.learner if learner is not None else None,
            tenant_id=tenant_id,
            window_size_minutes=window_size_minutes,
            enable_auto_retraining=enable_auto_retraining,
            model_updater=model_updater if updater is None else updater._twin,  # type: ignore[arg-type]
            alert_thresholds=alert_thresholds,
        )
        shared = learner.portal if learner is not None else None if updater is None else updater._portal
        super().__init__(twin, shared)
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
        self.close()

    def check(self) -> tuple[Alert, ...]:
        """Compare the measures with the thresholds; the new alerts."""
        return self._portal.call(_checked, self._twin)


async def _checked(monitor: AsyncMonitor) -> tuple[Alert, ...]:
    return monitor.check()


def _started(create: Callable[P, PerformanceMonitor]) -> Callable[P, PerformanceMonitor]:
    """The function that creates a monitor, with the same parameters, and starts it."""

    @functools.wraps(create, assigned=(), updated=())
    def started(*args: P.args, **kwargs: P.kwargs) -> PerformanceMonitor:
        """A started monitor. Raises the errors of `PerformanceMonitor` and its `start`."""
        monitor = create(*args, **kwargs)
        monitor.start()
        return monitor

    return started


init_performance_monitor = _started(PerformanceMonitor)


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
        clock: Clock = utc_now,
        seed: int | None = None,
    ) -> None:
        twin = AsyncLearningSystem(
            learner.learner if learner is not None else None,
            tenant_id=tenant_id,
            settings=settings,
            strategies=strategies,
            model=model,
            troubleshooter=troubleshooter,
            clock=clock,
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


class AutomatedRetrainer(Blocking[AsyncRetrainer]):
    """`autonomy.retrainer.AutomatedRetrainer` for synchronous code. Without a learner: one of the `home`.

    Raises InvalidInput.
    """

    def __init__(
        self,
        learner: BlockingLearner | None = None,
        *,
        tenant_id: str = "default",
        home: Path | str = ".",
        min_days: float = 30.0,
        min_new_samples: int = 50,
        mode: RetrainMode = "auto",
    ) -> None:
        used = learner or BlockingLearner(AutonomousLearner(home))
        self._own = used if learner is None else None
        twin = AsyncRetrainer(
            used.learner, tenant_id=tenant_id, min_days=min_days, min_new_samples=min_new_samples, mode=mode
        )
        super().__init__(twin, used.portal)

    def close(self) -> None:
        """Close the learner that this object made. Idempotent."""
        if self._own is not None:
            self._own.close()

    retrain = blocking(AsyncRetrainer.retrain)
    should_retrain = blocking(AsyncRetrainer.should_retrain)
    status = blocking(AsyncRetrainer.status)
