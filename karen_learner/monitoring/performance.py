"""`PerformanceMonitor`: measures of agents and models in a sliding window, alerts, and requests to retrain.

`record_*` only append to the `OutcomeQueue`. A task moves the outcomes to the window, the detectors and the
store.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

from cachetools import LRUCache

from karen_learner.contracts import OutcomeStore
from karen_learner.errors import InvalidInput
from karen_learner.events import Event, EventBus, FeedbackAdded, ModelDeployed, ModelRolledBack
from karen_learner.monitoring.degradation import ALPHA
from karen_learner.monitoring.outcome_queue import OutcomeQueue, Recorded
from karen_learner.monitoring.retraining import (
    CycleLearner,
    ModelUpdater,
    RetrainingRequests,
)
from karen_learner.monitoring.scores import AGENT, match_score, outcome_of
from karen_learner.monitoring.thresholds import alerts_of, health_parts, read_thresholds
from karen_learner.monitoring.window import Window
from karen_learner.records import (
    Alert,
    PerformanceReport,
    RetrainingResult,
    SystemMetrics,
    check_amount,
    check_id,
    check_limit,
    check_name,
    storable,
)

logger = logging.getLogger(__name__)

EVENT_QUEUE_SIZE = 10_000
"""Feedback events that wait for the monitor, and turns that are known to be measured."""
INTERVAL_S = 1.0
"""Seconds between two rounds of the monitor's task. It stores a full batch; the rest at each tick."""
BATCHES = 5
"""Writes of a round at most."""
TICK_S = 5.0
"""Seconds between two comparisons with the thresholds, and between two writes of few outcomes."""
MAX_ALERTS = 1_000

STATUSES: Mapping[str, bool | None] = {
    "success": True, "completed": True, "failed": False, "error": False, "timeout": False, "cancelled": None,
}  # fmt: skip
"""Whether a run with this status succeeded; None: it does not count."""


class MonitoredLearner(CycleLearner, Protocol):
    """The part of a learner that a monitor uses."""

    @property
    def store(self) -> OutcomeStore: ...

    @property
    def events(self) -> EventBus: ...

    async def start(self) -> None: ...


class PerformanceMonitor:
    """Measures the outcomes of one tenant's agents and models. Usable with or without a learner.

    `learner` feeds the outcomes of its turns, stores outcomes, and retrains on request. Without a learner,
    `store` keeps outcomes for a restart, and `model_updater` retrains. `alert_thresholds` change the defaults
    of `thresholds.DEFAULTS`. With `enable_auto_retraining`, an alert about the accuracy requests a
    retraining, at most one in ten minutes.

    Call the awaited `start()` in the event loop; the other methods are plain calls and thread-safe.
    Raises InvalidInput for impossible arguments.
    """

    def __init__(
        self,
        learner: MonitoredLearner | None = None,
        *,
        tenant_id: str = "default",
        window_size_minutes: int = 60,
        enable_auto_retraining: bool = False,
        model_updater: ModelUpdater | None = None,
        alert_thresholds: Mapping[str, float] | None = None,
        store: OutcomeStore | None = None,
    ) -> None:
        if check_limit(window_size_minutes, "window_size_minutes") < 1:
            raise InvalidInput("window_size_minutes must be at least 1")
        self.tenant_id = check_id(tenant_id, "tenant_id")
        self.enable_auto_retraining = enable_auto_retraining
        self._thresholds = read_thresholds(alert_thresholds)
        self._learner = learner
        self._has_updater = model_updater is not None
        kept = learner.store if learner is not None else store
        self._window = Window(window_size_minutes)
        self._outcomes = OutcomeQueue(tenant_id, self._window, kept)
        self._alerts: deque[Alert] = deque(maxlen=MAX_ALERTS)
        self._turns: LRUCache[str, bool] = LRUCache(EVENT_QUEUE_SIZE)
        self._active: set[tuple[str, str]] = set()
        self._retraining = RetrainingRequests(tenant_id, learner, model_updater, self._alerts.append)
        self._task: asyncio.Task[None] | None = None
        self._end_subscriptions: list[Callable[[], None]] = []

    # Lifecycle -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Load the window from the store, and start the monitor's task. Idempotent. Raises StoreError."""
        if self._task is not None:
            return
        if self._learner is not None:
            await self._learner.start()
        await self._outcomes.load()
        if self._learner is not None:
            subscribe = self._learner.events.subscribe
            self._end_subscriptions = [
                subscribe(self._on_feedback, to=FeedbackAdded, queue_size=EVENT_QUEUE_SIZE),
                subscribe(self._on_new_model, to=ModelDeployed),
                subscribe(self._on_new_model, to=ModelRolledBack),
            ]
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Store the recorded outcomes, and end the task. A running retraining continues. Idempotent."""
        while self._end_subscriptions:
            self._end_subscriptions.pop()()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._outcomes.process()
            while await self._outcomes.save():
                pass

    @property
    def running(self) -> bool:
        return self._task is not None

    async def _run(self) -> None:
        ticked = time.monotonic()
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self._outcomes.process()
                is_due = time.monotonic() - ticked >= TICK_S
                if is_due or self._outcomes.has_full_batch:
                    await self._save()
                if is_due:
                    ticked = time.monotonic()
                    await self._outcomes.process()  # so that `check` finds few waiting outcomes
                    self.check()
            except Exception:  # monitoring must go on: the next round may succeed
                logger.exception("the monitor of %r failed", self.tenant_id)

    async def _save(self) -> None:
        for _ in range(BATCHES):
            if not await self._outcomes.save():
                return

    # Recording -------------------------------------------------------------------------------

    def record_agent_run(
        self,
        run_id: str,
        agent_name: str,
        agent_type: str,
        status: str,
        duration_ms: float,
        tokens_used: int = 0,
        cost: float = 0.0,
        *,
        strategy: str | None = None,
        domain: str | None = None,
        error_type: str | None = None,
    ) -> None:
        """Record a run. `status` is one of `STATUSES`. Never waits. Raises InvalidInput.

        `duration_ms` is in milliseconds, `cost` in any one currency.
        """
        if status not in STATUSES:
            raise InvalidInput(f"unknown status {status!r:.60}: use {', '.join(STATUSES)}")
        if isinstance(tokens_used, bool) or not isinstance(tokens_used, int) or tokens_used < 0:
            raise InvalidInput(f"tokens_used must be a number of at least 0, not {tokens_used!r:.40}")
        self._outcomes.record(
            Recorded(
                at=time.time(),
                source="agent_run",
                agent=check_name(agent_name, "agent_name"),
                agent_type=check_name(agent_type, "agent_type"),
                strategy=_optional_name(strategy, "strategy"),
                domain=_optional_name(domain, "domain"),
                task_id=check_id(run_id, "run_id"),
                success=STATUSES[status],
                error_type=_optional_name(error_type, "error_type"),
                duration_ms=check_amount(duration_ms, "duration_ms"),
                cost=check_amount(cost, "cost"),
                tokens=tokens_used,
            )
        )

    def record_accuracy(
        self,
        agent_name: str,
        task_id: str,
        predicted_outcome: Any,
        actual_outcome: Any,
        feedback_source: str,
        *,
        strategy: str | None = None,
        domain: str | None = None,
    ) -> float:
        """Record a prediction whose answer is known, and return its score (see `match_score`).

        `feedback_source` names the origin of the answer. Never waits. Raises InvalidInput.
        """
        try:
            score = match_score(predicted_outcome, actual_outcome)
        except Exception as error:  # the comparison of a host's own type
            raise InvalidInput(f"the outcomes cannot be compared: {type(error).__name__}") from error
        self._outcomes.record(
            Recorded(
                at=time.time(),
                source="accuracy",
                agent=check_name(agent_name, "agent_name"),
                agent_type=check_name(feedback_source, "feedback_source"),
                strategy=_optional_name(strategy, "strategy"),
                domain=_optional_name(domain, "domain"),
                task_id=check_id(task_id, "task_id"),
                predicted=storable(predicted_outcome),
                actual=storable(actual_outcome),
                score=score,
            )
        )
        return score

    def record_attempt(
        self,
        success: bool,
        strategy: str,
        domain: str,
        error_type: str | None = None,
        *,
        task_id: str | None = None,
        duration_ms: float | None = None,
        propensity: float | None = None,
    ) -> None:
        """Record an attempt with a strategy; the strategy is its agent. Never waits. Raises InvalidInput.

        `propensity` is the probability with which the strategy was chosen.
        """
        self._outcomes.record(
            Recorded(
                at=time.time(),
                source="attempt",
                agent=check_name(strategy, "strategy"),
                strategy=strategy,
                domain=check_name(domain, "domain"),
                task_id=None if task_id is None else check_id(task_id, "task_id"),
                success=success,
                error_type=_optional_name(error_type, "error_type"),
                duration_ms=None if duration_ms is None else check_amount(duration_ms, "duration_ms"),
                propensity=propensity,
            )
        )

    def _on_feedback(self, event: Event) -> None:
        """Record the first feedback on a turn."""
        if event.tenant_id != self.tenant_id or not isinstance(event, FeedbackAdded) or event.turn is None:
            return
        if event.turn_id in self._turns:
            return
        outcome = outcome_of(event.turn)
        if outcome is not None:
            self._turns[event.turn_id] = True
            self._outcomes.record(Recorded.of(outcome))

    def _on_new_model(self, event: Event) -> None:
        """A new model starts a new detector."""
        if event.tenant_id == self.tenant_id:
            self._outcomes.restart_detector(AGENT)

    # Reading ---------------------------------------------------------------------------------

    def get_system_metrics(self) -> SystemMetrics:
        """The measures of the window, in all and by agent, strategy and domain."""
        return self._outcomes.metrics()

    def get_stats(self) -> dict[str, Any]:
        """State of the monitor itself: numbers of outcomes, alerts and retrainings, and connections."""
        return {
            **self._outcomes.counts,
            "retrainings": self._retraining.count,
            "waiting": self._outcomes.waiting,
            "alerts": len(self._alerts),
            "running": self.running,
            "window_size_minutes": self._window.minutes,
            "auto_retraining_enabled": self.enable_auto_retraining,
            "model_updater_connected": self._has_updater,
            "learner_connected": self._learner is not None,
        }

    def get_alerts(self, limit: int = 50) -> tuple[Alert, ...]:
        """The newest alerts, newest first. Raises InvalidInput for a negative limit."""
        return tuple(reversed(self._alerts))[: check_limit(limit)]

    def check(self) -> tuple[Alert, ...]:
        """Compare the measures with the thresholds; the new alerts.

        A measure raises one alert until it has kept its threshold again. The task calls this every few
        seconds.
        """
        metrics = self.get_system_metrics()
        found = [*alerts_of(metrics, self._thresholds, of="all agents"), *self._degradations()]
        for agent, measures in metrics.by_agent.items():
            if len(metrics.by_agent) > 1:
                found += alerts_of(measures, self._thresholds, of=f"agent {agent!r}")
        present = {(one.reading, str(one.details["of"])): one for one in found}
        new = [one for key, one in present.items() if key not in self._active]
        self._active = set(present)
        for one in new:
            self._alerts.append(one)
            logger.warning("monitor of %r: %s", self.tenant_id, one.message)
        if self.enable_auto_retraining and self.running:
            self._retraining.request(new)
        return tuple(new)

    def _degradations(self) -> list[Alert]:
        """An alert for each agent whose accuracy has fallen."""
        return [
            Alert(
                level="critical",
                reading="degradation",
                message=(
                    f"agent {agent!r}: the error rate of the newest outcomes is {one.recent_rate:.3f}, "
                    f"above {one.reference:.3f}; a false alarm is expected once in {1 / ALPHA:,.0f} outcomes"
                ),
                details={
                    "of": f"agent {agent!r}",
                    "error_rate": one.recent_rate,
                    "reference": one.reference,
                    "e_value": min(one.evidence, sys.float_info.max),
                },
            )
            for agent, one in self._outcomes.alarms()
        ]

    def generate_report(self, include_agents: bool = True) -> PerformanceReport:
        """Measures, health score with its parts, the newest alerts, and recommendations."""
        metrics = self.get_system_metrics()
        parts = health_parts(metrics, self._thresholds)
        if not include_agents:
            metrics = metrics.model_copy(update={"by_agent": {}})
        advice = [
            one.advice
            for one in self._thresholds
            for part in parts
            if part.reading == one.measure and not one.is_kept(part.value)
        ]
        if self._degradations():
            advice.append("the accuracy has fallen: retrain, or roll back the last deployment")
        score = sum(part.points for part in parts) / len(parts) if parts else None
        return PerformanceReport(
            tenant_id=self.tenant_id,
            health_score=score,
            parts=parts,
            metrics=metrics,
            alerts=self.get_alerts(20),
            recommendations=tuple(advice),
        )

    # Retraining ------------------------------------------------------------------------------

    async def trigger_retraining(
        self, reason: str = "Manual trigger", force_full_retrain: bool = False
    ) -> RetrainingResult:
        """Retrain by the updater, else by a learning cycle. A retraining that changes nothing is a result.

        An error of a learning cycle is a result, too. Raises the errors of the updater.
        """
        return await self._retraining.retrain(reason, full=force_full_retrain)


async def init_performance_monitor(
    learner: MonitoredLearner | None = None,
    *,
    tenant_id: str = "default",
    window_size_minutes: int = 60,
    enable_auto_retraining: bool = False,
    model_updater: ModelUpdater | None = None,
    alert_thresholds: Mapping[str, float] | None = None,
    store: OutcomeStore | None = None,
) -> PerformanceMonitor:
    """A started monitor. The arguments and errors are those of `PerformanceMonitor` and its `start`."""
    monitor = PerformanceMonitor(
        learner,
        tenant_id=tenant_id,
        window_size_minutes=window_size_minutes,
        enable_auto_retraining=enable_auto_retraining,
        model_updater=model_updater,
        alert_thresholds=alert_thresholds,
        store=store,
    )
    await monitor.start()
    return monitor


def _optional_name(value: str | None, what: str) -> str | None:
    return None if value is None else check_name(value, what)
