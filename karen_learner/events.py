"""Past-tense, frozen events and the bus that carries them.

An event is published after what it tells has been committed. A subscriber that fails is logged and
harms nobody.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from pydantic import Field

from karen_learner.records import LearningCycleResult, Record, Stage, Task, utc_now

logger = logging.getLogger(__name__)


class Event(Record):
    """Base of all events. `tenant_id` says whose it is, `at` when it happened (UTC)."""

    tenant_id: str
    at: datetime = Field(default_factory=utc_now)


class TurnCollected(Event):
    turn_id: str
    degraded: bool


class FeedbackAdded(Event):
    turn_id: str
    is_correction: bool


class CycleStarted(Event):
    cycle_id: str
    mode: str
    reason: str | None


class StageStarted(Event):
    cycle_id: str
    stage: Stage


class TrainingProgressed(Event):
    """One pass over the data of one task. `total` is the number of passes planned, `seconds` what the
    updates of this one took."""

    cycle_id: str
    task: Task
    iteration: int
    total: int
    loss: float
    words_per_second: float
    seconds: float
    score: float | None = None


class ModelDeployed(Event):
    version: str
    previous_version: str | None
    cycle_id: str | None


class ModelRolledBack(Event):
    version: str
    previous_version: str | None


class CycleFinished(Event):
    result: LearningCycleResult


E_ = TypeVar("E_", bound=Event)
Subscriber = Callable[[Event], Awaitable[None] | None]


class EventBus:
    """Hands each event to every subscriber, in order of subscription."""

    def __init__(self) -> None:
        self._subscribers: dict[object, tuple[type[Event], Subscriber]] = {}

    def subscribe(self, subscriber: Subscriber, *, to: type[Event] = Event) -> Callable[[], None]:
        """Call `subscriber` with each event of type `to`; the returned function ends it."""
        subscription = object()

        def end() -> None:
            self._subscribers.pop(subscription, None)

        self._subscribers[subscription] = (to, subscriber)
        return end

    async def publish(self, event: Event) -> None:
        """Tell everybody who listens. Returns when all of them have been told."""
        for wanted, subscriber in list(self._subscribers.values()):
            if isinstance(event, wanted):
                await self._deliver(subscriber, event)

    async def _deliver(self, subscriber: Subscriber, event: Event) -> None:
        try:
            answer = subscriber(event)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # a listener is foreign code: its fault must not reach the loop
            logger.exception("a subscriber failed on %s", type(event).__name__)
