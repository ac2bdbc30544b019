"""`AutomatedLearningSystem`: learns from attempts which strategy to use, and reacts if too few succeed."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self

from karen_learner.autonomy.attempts import Attempt, AttemptShare, RecentAttempts, Trend
from karen_learner.autonomy.host_models import HostModelUpdater, TrainableModel
from karen_learner.autonomy.learning_settings import LearningSystemSettings, read_learning_settings
from karen_learner.autonomy.strategies.knowledge import StrategyKnowledge
from karen_learner.contracts import Clock, OutcomeStore, StrategyStore
from karen_learner.errors import without_message
from karen_learner.monitoring.performance import MonitoredLearner, PerformanceMonitor
from karen_learner.records import Record, RetrainingResult, Score, check_amount, check_id, check_name, utc_now
from karen_learner.records.strategies import ErrorAction, Limits, StrategyEstimate, StrategyRecommendation
from karen_learner.settings import StrategySettings, load_settings

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0
"""Seconds between two ticks of the system's task."""
LOADED_DAYS = 7.0
LOADED = 5_000
"""Stored outcomes among which `start` looks for attempts."""
MAX_REACTIONS = 100


class LearningStore(StrategyStore, OutcomeStore, Protocol):
    """Stores strategies and outcomes. A `MemoryStore` is one."""


class StrategicLearner(MonitoredLearner, Protocol):
    """The part of a learner that a learning system uses."""

    @property
    def store(self) -> LearningStore: ...


class Troubleshooter(Protocol):
    """Finds and mends problems. `AutomatedTroubleshooter` is one."""

    def diagnose_and_fix(self) -> Any: ...


class ErrorPattern(Record):
    """Failures with one error type in one domain, and the rule for them."""

    error_type: str
    domain: str
    count: int
    share: Score
    rule: str


class TrainingFrequency(Record):
    """The least seconds between two trainings, the trainings so far, and the last one."""

    interval_s: float
    trainings: int
    last_at: datetime | None


class Reaction(Record):
    """An act of the system, with the number that caused it."""

    at: datetime
    act: str
    because: str


class PerformanceAnalysis(Record):
    """Measures of the newest 1,000 attempts.

    `current_success_rate` is that of the newest 100. `improvement_rate` is the success rate of the newer half
    minus that of the older half, `performance_trend` whether this difference is significant.
    """

    current_success_rate: Score | None
    strategy_performance: Mapping[str, AttemptShare]
    domain_performance: Mapping[str, AttemptShare]
    error_patterns: tuple[ErrorPattern, ...]
    performance_trend: Trend
    improvement_rate: float | None
    training_frequency: TrainingFrequency
    consecutive_failures: int
    attempts: int
    reactions: tuple[Reaction, ...]


class AutomatedLearningSystem:
    """Chooses strategies by domain from the results of attempts. Usable with or without a learner.

    With a learner, the state is kept in its store, and a retraining is a learning cycle. Without one, `store`
    keeps the state, and `model` is the host's own model. `settings` are `LearningSystemSettings`, a mapping,
    or a JSON file. `monitor` receives the attempts; by default the system makes one. Call the awaited
    `start_automated_learning()` in the event loop; `record_attempt`, `recommend`, `react` and
    `analyze_performance` are plain calls and thread-safe. Raises SettingsError and InvalidInput.
    """

    def __init__(
        self,
        learner: StrategicLearner | None = None,
        *,
        tenant_id: str = "default",
        settings: LearningSystemSettings | Mapping[str, Any] | Path | str | None = None,
        strategies: StrategySettings | None = None,
        model: TrainableModel | None = None,
        monitor: PerformanceMonitor | None = None,
        troubleshooter: Troubleshooter | None = None,
        store: LearningStore | None = None,
        clock: Clock = utc_now,
        seed: int | None = None,
    ) -> None:
        self.tenant_id = check_id(tenant_id, "tenant_id")
        self.settings = read_learning_settings(settings)
        self.monitor = monitor or PerformanceMonitor(
            learner,
            tenant_id=tenant_id,
            model_updater=None if model is None else HostModelUpdater(model),
            store=store,
        )
        self._owns_monitor = monitor is None
        self._can_retrain = monitor is not None or learner is not None or model is not None
        self._troubleshooter = troubleshooter
        self._outcomes: LearningStore | None = learner.store if learner is not None else store
        self._knowledge = StrategyKnowledge(
            strategies or load_settings().strategies, tenant_id=tenant_id, store=self._outcomes, clock=clock,
            seed=seed,
        )  # fmt: skip
        self._clock = clock
        self._recent = RecentAttempts()
        self._reactions: deque[Reaction] = deque(maxlen=MAX_REACTIONS)
        self._trainings = 0
        self._trained_at: datetime | None = None
        self._analysed_at = clock()
        self._lock = self._knowledge.lock
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._retraining: asyncio.Task[None] | None = None

    # Lifecycle -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start_automated_learning()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop_automated_learning()

    async def start_automated_learning(self) -> None:
        """Load the state, and start the task. Idempotent. Raises StoreError."""
        if self._task is not None:
            return
        if self._owns_monitor:
            await self.monitor.start()
        await self._knowledge.sync()
        await self._load_attempts()
        self._stopping.clear()
        self._task = asyncio.create_task(self._run())

    async def stop_automated_learning(self) -> None:
        """Store the state, and end the task. A running retraining continues. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        await task
        await self._knowledge.sync()
        if self._owns_monitor:
            await self.monitor.stop()

    @property
    def running(self) -> bool:
        return self._task is not None

    async def _load_attempts(self) -> None:
        if self._outcomes is None or len(self._recent):
            return
        since = self._clock() - timedelta(days=LOADED_DAYS)
        found = await self._outcomes.newest_outcomes(self.tenant_id, since=since, limit=LOADED)
        with self._lock:
            for one in found:
                if one.source == "attempt" and one.strategy and one.domain:
                    success = bool(one.success)
                    self._recent.add(Attempt(one.known_at, success, one.strategy, one.domain, one.error_type))

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._stopping.wait()
            except TimeoutError:
                await self._tick_safely()

    async def _tick_safely(self) -> None:
        try:
            await self.tick()
        except Exception:  # the system must go on: the next tick may succeed
            logger.exception("the learning system of %r failed", self.tenant_id)

    async def tick(self, now: datetime | None = None) -> tuple[Reaction, ...]:
        """Store new attempts; after `training_frequency`, react to the success rate. The new reactions.

        The task calls this every few seconds. A scheduler with another clock may call it instead.
        """
        now = self._clock() if now is None else now
        await self._knowledge.sync()
        if (now - self._analysed_at).total_seconds() < self.settings.training_frequency:
            return ()
        self._analysed_at = now
        return await self._improve(now)

    # Attempts --------------------------------------------------------------------------------

    def record_attempt(
        self,
        success: bool,
        strategy: str,
        domain: str,
        error_type: str | None = None,
        *,
        choice_id: str | None = None,
        task_id: str | None = None,
        duration_ms: float | None = None,
    ) -> None:
        """Count an attempt. `choice_id` is that of the recommendation, `task_id` the host's task.

        Never waits. Raises InvalidInput.
        """
        check_name(strategy, "strategy")
        check_name(domain, "domain")
        if error_type is not None:
            check_name(error_type, "error_type")
        if duration_ms is not None:
            check_amount(duration_ms, "duration_ms")
        success = bool(success)
        with self._lock:
            propensity = self._knowledge.record(
                success, strategy, domain, error_type,
                choice_id=choice_id, task_id=task_id, duration_ms=duration_ms,
            )  # fmt: skip
            failures = self._recent.add(Attempt(self._clock(), success, strategy, domain, error_type))
            if failures and failures % self.settings.consecutive_failures_threshold == 0:
                self._rotate(domain, f"{failures} failures in a row")
        self.monitor.record_attempt(
            success, strategy, domain, error_type, task_id=task_id, duration_ms=duration_ms,
            propensity=propensity,
        )  # fmt: skip

    def recommend(self, domain: str) -> StrategyRecommendation:
        """The strategy of the next attempt in a domain, its limits, and the rules for errors.

        Raises InvalidInput.
        """
        with self._lock:
            return self._knowledge.recommend(domain)

    def limits(self, strategy: str, domain: str) -> Limits:
        """The limits of a strategy in a domain, without a choice."""
        with self._lock:
            return self._knowledge.limits.limits(domain, strategy)

    def react(self, error_type: str, domain: str) -> ErrorAction:
        """The reaction to an error: mostly that of its rule, at times another one, to learn from it."""
        check_name(error_type, "error_type")
        check_name(domain, "domain")
        with self._lock:
            return self._knowledge.rules.choose(error_type, domain)

    def strategies(self, domain: str) -> tuple[StrategyEstimate, ...]:
        """All strategies of a domain with their success rates, the best first."""
        with self._lock:
            return self._knowledge.chooser.estimates(domain)

    def freeze(self, strategy: str, domain: str | None = None) -> None:
        """Use one strategy in a domain, or in all domains, without exploration. Attempts still count."""
        with self._lock:
            self._knowledge.freeze(strategy, domain)

    def unfreeze(self, domain: str | None = None) -> None:
        """End `freeze`."""
        with self._lock:
            self._knowledge.unfreeze(domain)

    def rotate(self, domain: str, reason: str = "on request") -> str | None:
        """Exclude the best strategy of a domain for `training_frequency` seconds; the one that is next.

        None if the domain has no other strategy.
        """
        with self._lock:
            return self._rotate(domain, reason, asked=True)

    def _rotate(self, domain: str, reason: str, *, asked: bool = False) -> str | None:
        if not asked and not self.settings.enable_strategy_optimization:
            return None
        until = self._clock() + timedelta(seconds=self.settings.training_frequency)
        rotated = self._knowledge.bar_best(domain, until=until)
        if rotated is not None:
            self._add_reaction(f"use {rotated!r} in domain {domain!r}", reason)
        return rotated

    def analyze_performance(self) -> PerformanceAnalysis:
        """Measures of the newest attempts, the rules for their errors, and the reactions of the system."""
        with self._lock:
            recent = self._recent
            trend, change = recent.change()
            return PerformanceAnalysis(
                current_success_rate=recent.current_success_rate(),
                strategy_performance=recent.by(lambda one: one.strategy),
                domain_performance=recent.by(lambda one: one.domain),
                error_patterns=tuple(
                    ErrorPattern(
                        error_type=error_type,
                        domain=domain,
                        count=count,
                        share=count / len(recent),
                        rule=self._knowledge.rules.rule(error_type, domain).text,
                    )
                    for (error_type, domain), count in recent.errors().most_common()
                ),
                performance_trend=trend,
                improvement_rate=change,
                training_frequency=TrainingFrequency(
                    interval_s=self.settings.training_frequency,
                    trainings=self._trainings,
                    last_at=self._trained_at,
                ),
                consecutive_failures=recent.consecutive_failures,
                attempts=len(recent),
                reactions=tuple(self._reactions),
            )

    # Reactions -------------------------------------------------------------------------------

    async def _improve(self, now: datetime) -> tuple[Reaction, ...]:
        """React to the success rates of the newest attempts."""
        settings, before = self.settings, tuple(self._reactions)
        with self._lock:
            rates = {domain: self._recent.success_rate(domain) for domain in self._recent.domains()}
            for domain, rate in rates.items():
                if rate is not None and rate < settings.performance_threshold:
                    self._rotate(domain, f"success rate {rate:.3f}")
            rate, failures = self._recent.success_rate(), self._recent.consecutive_failures
        if rate is not None and rate < settings.performance_alert_threshold:
            because = f"success rate {rate:.3f} below {settings.performance_alert_threshold:g}"
            logger.error("learning system of %r: %s", self.tenant_id, because)
            self._add_reaction("alert", because)
        if rate is not None and rate < settings.auto_retrain_trigger:
            self._retrain(now, f"success rate {rate:.3f} below {settings.auto_retrain_trigger:g}")
        is_low = rate is not None and rate < settings.performance_threshold
        if is_low or failures >= settings.consecutive_failures_threshold:
            await self._troubleshoot(
                f"{failures} failures in a row" if not is_low else f"success rate {rate:.3f}"
            )
        return tuple(one for one in self._reactions if one not in before)

    def _retrain(self, now: datetime, reason: str) -> None:
        """Begin a retraining, unless one runs."""
        is_busy = self._retraining is not None and not self._retraining.done()
        if not self.settings.enable_model_retraining or not self._can_retrain or is_busy:
            return
        self._trainings += 1
        self._trained_at = now
        self._add_reaction("retrain", reason)
        self._retraining = asyncio.create_task(self._retrained(reason))

    async def _retrained(self, reason: str) -> None:
        try:
            result: RetrainingResult = await self.monitor.trigger_retraining(reason)
        except Exception as error:  # the updater is foreign code
            logger.exception("the retraining of %r failed", self.tenant_id)
            self._add_reaction("retraining failed", without_message(error))
        else:
            self._add_reaction("retrained" if result.success else "retraining changed nothing", reason)

    async def _troubleshoot(self, because: str) -> None:
        if not self.settings.enable_auto_troubleshooting or self._troubleshooter is None:
            return
        self._add_reaction("troubleshoot", because)
        found = self._troubleshooter.diagnose_and_fix()
        if inspect.isawaitable(found):
            await found

    def _add_reaction(self, act: str, because: str) -> None:
        self._reactions.append(Reaction(at=self._clock(), act=act, because=because))
