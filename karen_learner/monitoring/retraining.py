"""Retrainings that a person or an alert requests: by an updater of the host, else by a learning cycle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from karen_learner.errors import KarenLearnerError, without_message
from karen_learner.monitoring.scores import AGENT
from karen_learner.records import Alert, LearningCycleResult, RetrainingResult

logger = logging.getLogger(__name__)

COOL_DOWN_S = 600.0
"""Seconds between two retrainings that alerts request."""
RETRAINED_FOR = frozenset({"avg_accuracy", "degradation"})
"""Readings whose alerts request a retraining: new examples can mend them."""


class CycleLearner(Protocol):
    """The part of a learner that runs cycles."""

    async def trigger_learning_cycle(
        self,
        tenant_id: str,
        *,
        force_training: bool = False,
        mode: Literal["auto", "incremental", "full", "micro"] = "auto",
        reason: str | None = None,
    ) -> LearningCycleResult: ...


class ModelUpdater(Protocol):
    """Retrains a model on request."""

    async def retrain(self, *, reason: str, force_full_retrain: bool = False) -> RetrainingResult: ...


async def retrain_by_cycle(
    learner: CycleLearner, tenant_id: str, *, reason: str, full: bool
) -> RetrainingResult:
    """The result of a learning cycle. An error of the cycle is a result, too."""
    started = time.perf_counter()
    try:
        result = await learner.trigger_learning_cycle(
            tenant_id, force_training=full, mode="full" if full else "auto", reason=reason
        )
    except KarenLearnerError as error:
        return RetrainingResult(
            success=False, model_type=AGENT, retrain_type="none", reason=reason, message=str(error)
        )
    has_trained = result.status in ("deployed", "rejected")
    return RetrainingResult(
        success=result.status == "deployed",
        model_type=AGENT,
        retrain_type=result.mode if has_trained else "none",
        events_processed=result.training_examples,
        duration_ms=1000.0 * (time.perf_counter() - started),
        reason=reason,
        message=result.error_message,
    )


class RetrainingRequests:
    """Retrains the model of one tenant.

    After a retraining that an alert requested, `report` receives an alert with its result.
    """

    def __init__(
        self,
        tenant_id: str,
        learner: CycleLearner | None,
        updater: ModelUpdater | None,
        report: Callable[[Alert], None],
    ) -> None:
        self.count = 0
        self._tenant_id = tenant_id
        self._learner = learner
        self._updater = updater
        self._report = report
        self._running: asyncio.Task[None] | None = None
        self._retrained_at = -COOL_DOWN_S

    async def retrain(self, reason: str, *, full: bool) -> RetrainingResult:
        """Retrain now. A retraining that changes nothing is a result.

        An error of a learning cycle is a result, too. Raises the errors of the updater.
        """
        self.count += 1
        self._retrained_at = time.monotonic()
        if self._updater is not None:
            return await self._updater.retrain(reason=reason, force_full_retrain=full)
        if self._learner is not None:
            return await retrain_by_cycle(self._learner, self._tenant_id, reason=reason, full=full)
        return RetrainingResult(
            success=False,
            model_type="none",
            retrain_type="none",
            reason=reason,
            message="the monitor has neither a learner nor a model updater",
        )

    def request(self, alerts: Sequence[Alert]) -> None:
        """Start a retraining for the first alert about the accuracy, at most one in `COOL_DOWN_S`."""
        wanted = next((one for one in alerts if one.reading in RETRAINED_FOR), None)
        is_busy = self._running is not None and not self._running.done()
        cooling = time.monotonic() - self._retrained_at < COOL_DOWN_S
        if wanted is not None and not is_busy and not cooling:
            self._running = asyncio.get_running_loop().create_task(self._retrain_for(wanted))

    async def _retrain_for(self, alert: Alert) -> None:
        try:
            result = await self.retrain(f"alert: {alert.message}", full=False)
        except Exception as error:  # the updater is foreign code
            logger.exception("the retraining of %r failed", self._tenant_id)
            message, level = f"retraining failed: {without_message(error)}", "critical"
        else:
            level = "info" if result.success else "warning"
            message = f"retraining {'succeeded' if result.success else f'changed nothing: {result.message}'}"
        details = {"of": alert.details["of"], "requested_by": alert.reading}
        self._report(Alert(level=level, reading="retraining", message=message, details=details))
