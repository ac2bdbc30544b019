"""Messages of a stream, and the parts of a store and of a learner that an updater uses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from karen_learner.contracts import CollectingLearner, InboxStore
from karen_learner.monitoring.retraining import CycleLearner
from karen_learner.settings import Settings


class StreamMessage(NamedTuple):
    """The content of one message, and its position in its stream."""

    content: bytes
    position: str


class Malformed(NamedTuple):
    """The place of a message in its batch, and the reason for which it is no event."""

    place: int
    reason: str


Accept = Callable[[Sequence[StreamMessage]], Coroutine[Any, Any, Sequence[Malformed]]]
"""Stores a batch; the malformed messages. Awaited in the event loop."""


class StreamLearner(CycleLearner, CollectingLearner, Protocol):
    """The part of a learner that an updater uses."""

    @property
    def store(self) -> InboxStore: ...

    @property
    def settings(self) -> Settings: ...

    async def start(self) -> None: ...

    async def tenants(self) -> Sequence[str]: ...

    def use_sampler(self, tenant_id: str, name: str) -> None: ...
