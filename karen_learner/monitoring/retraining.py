"""A retraining on request as a learning cycle of a learner."""

from __future__ import annotations

import time
from typing import Literal, Protocol

from karen_learner.errors import KarenLearnerError
from karen_learner.monitoring.turn_outcomes import AGENT
from karen_learner.records import LearningCycleResult, RetrainingResult


class CycleLearner(Protocol):
    """A learner that runs learning cycles."""

    async def trigger_learning_cycle(
        self,
        tenant_id: str,
        *,
        force_training: bool = False,
        mode: Literal["auto", "incremental", "full", "micro"] = "auto",
        reason: str | None = None,
    ) -> LearningCycleResult: ...


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
