"""Events: frozen records in the past tense, and the bus that delivers them.

An event is published after the commit of its change. Each subscriber has a bounded queue and a task of its
own, so `publish` never waits. A full queue drops the new event and counts it. An error in a subscriber is
logged.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field

from karen_learner.records import LearningCycleResult, Record, Stage, Task, Turn, new_id, utc_now

logger = logging.getLogger(__name__)

QUEUE_SIZE = 1_000
CLOSE_TIMEOUT_S = 5.0


class Event(Record):
    """Base of all events: id, tenant and time (UTC). `type` is the class name."""

    schema_version: ClassVar[int] = 1

    event_id: str = Field(default_factory=new_id)
    tenant_id: str
    at: datetime = Field(default_factory=utc_now)

    @property
    def type(self) -> str:
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with `type` and `schema_version`."""
        return {"type": self.type, "schema_version": self.schema_version, **super().to_dict()}


class TurnCollected(Event):
    turn_id: str
    degraded: bool


class FeedbackAdded(Event):
    """Feedback was stored. `turn` is the turn with it: subscribers of this process need no read.

    `turn` has the texts of users. It is no part of `to_dict` and of the representation.
    """

    turn_id: str
    is_correction: bool
    turn: Turn | None = Field(default=None, exclude=True, repr=False)


class CycleStarted(Event):
    cycle_id: str
    mode: str
    reason: str | None


class StageStarted(Event):
    cycle_id: str
    stage: Stage


class TrainingProgressed(Event):
    """A pass over the training data of one task. `total` passes are planned.

    `seconds`: time of updates since the last report; short passes are reported together.
    """

    cycle_id: str
    task: Task
    iteration: int
    total: int
    loss: float
    words_per_second: float
    seconds: float
    shadow: int | None = None


class ModelDeployed(Event):
    version: str
    previous_version: str | None
    cycle_id: str | None


class ModelRolledBack(Event):
    version: str
    previous_version: str | None


class ModelUnloaded(Event):
    """A live model was unloaded. `reason` is the exceeded setting. The next request loads it again."""

    version: str | None
    reason: str


class CycleFinished(Event):
    result: LearningCycleResult


Subscriber = Callable[[Event], Awaitable[None] | None]


@dataclass(eq=False)
class Subscription:
    """One subscriber with its queue. `dropped` counts the events that a full queue refused."""

    subscriber: Subscriber
    wanted: type[Event]
    queue_size: int
    queue: deque[Event] = field(default_factory=deque)
    delivery: asyncio.Task[None] | None = None
    dropped: int = 0

    def put(self, event: Event) -> None:
        """Queue the event if its type is wanted."""
        if not isinstance(event, self.wanted):
            return
        if len(self.queue) >= self.queue_size:
            if not self.dropped:
                logger.warning("a subscriber is too slow: its queue is full, events are dropped")
            self.dropped += 1
            return
        self.queue.append(event)
        if self.delivery is None or self.delivery.done():
            self.delivery = asyncio.get_running_loop().create_task(self._deliver())

    async def _deliver(self) -> None:
        while self.queue:
            event = self.queue.popleft()
            try:
                answer = self.subscriber(event)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:  # a subscriber is foreign code: its error must not end the delivery
                logger.exception("a subscriber failed on %s", event.type)


class EventBus:
    """Delivers events to every subscriber, for each in order of publication."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def subscribe(
        self, subscriber: Subscriber, *, to: type[Event] = Event, queue_size: int = QUEUE_SIZE
    ) -> Callable[[], None]:
        """Call `subscriber` with each event of type `to`. The returned function ends the subscription."""
        subscription = Subscription(subscriber, to, queue_size)
        self._subscriptions.append(subscription)

        def end() -> None:
            subscription.queue.clear()
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

        return end

    @property
    def dropped(self) -> int:
        """Number of events that the full queues of present subscribers refused."""
        return sum(subscription.dropped for subscription in self._subscriptions)

    def publish(self, event: Event) -> None:
        """Queue the event for every subscriber. Never waits. Needs a running event loop.

        Does nothing after `close()`: the store that subscribers use may be closed too.
        """
        if self._closed:
            return
        for subscription in self._subscriptions:
            subscription.put(event)

    async def drain(self) -> None:
        """Wait until all queued events are delivered, except those of a subscriber that calls it."""
        while running := self._deliveries():
            await asyncio.wait(running)

    def _deliveries(self) -> list[asyncio.Task[None]]:
        found = (subscription.delivery for subscription in self._subscriptions)
        caller = asyncio.current_task()
        return [task for task in found if task is not None and task is not caller and not task.done()]

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Deliver queued events for at most `timeout_s` seconds, then cancel deliveries. Idempotent."""
        self._closed = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.drain()
        except TimeoutError:
            logger.warning("subscribers need more than %g s: undelivered events are dropped", timeout_s)
            for subscription in self._subscriptions:
                subscription.queue.clear()
            unfinished = self._deliveries()
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
