"""A host's own model as a model updater: trained on request, accepted if its accuracy is high enough."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from asyncio_extras import call_in_executor

from karen_learner.records import RetrainingResult

T = TypeVar("T")

ACCEPTED_ABOVE = 0.7
"""A trained model is accepted if its accuracy is above this."""
MODEL_TYPE = "host_model"


class TrainableModel(Protocol):
    """A model that the host trains and validates. Plain methods run in a thread; async ones are awaited."""

    def has_sufficient_data(self) -> bool | Awaitable[bool]:
        """Whether a training makes sense."""

    def train_model(self) -> object:
        """Train a new model."""

    def validate_model(self) -> float | Awaitable[float]:
        """The accuracy of the trained model, 0 to 1. The host uses the model only if it is accepted."""


class HostModelUpdater:
    """Retrains a `TrainableModel`. It is a `ModelUpdater` for monitors."""

    def __init__(self, model: TrainableModel) -> None:
        self._model = model

    async def retrain(self, *, reason: str, force_full_retrain: bool = False) -> RetrainingResult:
        """Train and validate. `force_full_retrain` trains without the question for sufficient data.

        Raises the errors of the model.
        """
        started = time.perf_counter()
        if not force_full_retrain and not await _called(self._model.has_sufficient_data):
            return self._result(reason, "none", started, message="the model has not enough data")
        await _called(self._model.train_model)
        accuracy = float(await _called(self._model.validate_model))
        accepted = math.isfinite(accuracy) and ACCEPTED_ABOVE < accuracy <= 1.0
        message = f"accuracy {accuracy:.3f}, {'' if accepted else 'not '}above {ACCEPTED_ABOVE:g}"
        return self._result(reason, "full", started, success=accepted, message=message)

    @staticmethod
    def _result(
        reason: str, kind: str, started: float, *, message: str, success: bool = False
    ) -> RetrainingResult:
        return RetrainingResult(
            success=success,
            model_type=MODEL_TYPE,
            retrain_type="full" if kind == "full" else "none",
            duration_ms=1000.0 * (time.perf_counter() - started),
            reason=reason,
            message=message,
        )


async def _called(method: Callable[[], T | Awaitable[T]]) -> T:
    """The result of a method of the host."""
    called = method() if inspect.iscoroutinefunction(method) else await call_in_executor(method)
    found: T = await called if inspect.isawaitable(called) else called
    return found
