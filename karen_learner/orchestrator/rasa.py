"""`RasaEventBroker`: turns of a Rasa assistant, from the events that Rasa publishes.

In `endpoints.yml`:

    event_broker:
      type: karen_learner.orchestrator.rasa.RasaEventBroker
      home: ./karen-home
      tenant_id: helpdesk

Rasa is not imported: it finds an event broker by the names of its methods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol, Self

from cachetools import LRUCache

from karen_learner.collection.turns import CharacterSanitizer, draft_turn
from karen_learner.learner import AutonomousLearner
from karen_learner.orchestrator.collection import SpooledCollection

logger = logging.getLogger(__name__)

MAX_SENDERS = 10_000
"""Conversations with a message whose answer is not complete."""
END_OF_TURN = "action_listen"
"""Rasa's action when the assistant waits for the next message."""


class EndpointConfig(Protocol):
    """The part of Rasa's configuration that is read: the keys of the section."""

    kwargs: Mapping[str, Any]


@dataclass
class _Message:
    text: str
    turn_id: str
    occurred_at: datetime
    answers: list[str] = field(default_factory=list)


class RasaEventBroker:
    """Collects a turn for each message of a user with the assistant's messages after it.

    The turn ends with the action `action_listen`, or with the next message. Its id is that of Rasa's message,
    so a repeated event is the same turn. The learner is started and closed with the broker.
    """

    def __init__(self, learner: AutonomousLearner, *, tenant_id: str = "default") -> None:
        self.learner = learner
        self._tenant_id = tenant_id
        self.collection = SpooledCollection(learner, learner.layout.spool)
        self._messages: LRUCache[str, _Message] = LRUCache(MAX_SENDERS)
        self._putting: set[asyncio.Task[bool]] = set()
        self.ignored = 0

    @classmethod
    async def from_endpoint_config(
        cls, broker_config: EndpointConfig, _event_loop: asyncio.AbstractEventLoop | None = None
    ) -> Self:
        """The started broker of a configuration. Rasa calls this."""
        keys = dict(broker_config.kwargs)
        learner = AutonomousLearner(keys.get("home", "."), settings=keys.get("settings"))
        broker = cls(learner, tenant_id=keys.get("tenant_id", "default"))
        await broker.start()
        return broker

    async def start(self) -> None:
        await self.learner.start()
        await self.collection.start()

    def is_ready(self) -> bool:
        """Whether events can be published."""
        return True

    def publish(self, event: Mapping[str, Any]) -> None:
        """Take an event of Rasa. Never waits, and never raises: a broken event is counted in `ignored`."""
        try:
            self._take(event)
        except Exception as error:  # foreign input must not stop the assistant
            if not self.ignored:
                logger.warning("an event of Rasa is ignored: %s", type(error).__name__)
            self.ignored += 1

    async def close(self) -> None:
        """Collect the open turns, and close the learner."""
        for sender in list(self._messages):
            self._end_turn(sender)
        await asyncio.gather(*self._putting)
        await self.collection.close()
        await self.learner.close()

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, sender = event["event"], event["sender_id"]
        if kind == "user":
            self._end_turn(sender)
            if event.get("text") and not event["text"].startswith("/"):  # a command, such as /restart
                self._messages[sender] = _message(event)
        elif kind == "bot" and (message := self._messages.get(sender)) is not None and event.get("text"):
            message.answers.append(event["text"])
        elif kind == "action" and event.get("name") == END_OF_TURN:
            self._end_turn(sender)

    def _end_turn(self, sender: str) -> None:
        message = self._messages.pop(sender, None)
        if message is None:
            return
        limits = self.learner.settings.analysis
        draft = draft_turn(
            self._tenant_id, message.text, "\n".join(message.answers)[: limits.max_response_chars], sender,
            limits=limits, sanitizer=CharacterSanitizer(),
            conversation_id=sender, turn_id=message.turn_id, occurred_at=message.occurred_at,
        )  # fmt: skip
        task = asyncio.get_running_loop().create_task(self.collection.put_turn(draft))
        self._putting.add(task)
        task.add_done_callback(self._putting.discard)


def _message(event: Mapping[str, Any]) -> _Message:
    sender, timestamp = event["sender_id"], float(event["timestamp"])
    return _Message(
        text=event["text"],
        turn_id=f"rasa:{sender}:{event.get('message_id') or timestamp}",
        occurred_at=datetime.fromtimestamp(timestamp, timezone.utc),
    )
