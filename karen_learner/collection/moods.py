"""How the conversations sound that are going on: what the model said of their latest turns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from karen_learner.collection.recent import Recent
from karen_learner.collection.turns import TurnDraft
from karen_learner.components.moods import mood_after
from karen_learner.records import Analysis, Mood

RECENT_CONVERSATIONS = 4_096
"""So many conversations are followed at a time. One that goes on later, or after a restart, begins anew."""


@dataclass
class Conversation:
    """Its mood so far. `turn` is held while a turn is analysed: the next one must hear how that sounded."""

    mood: Mood = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def hear(self, analysis: Analysis) -> None:
        """Let one more turn count. What rules said instead of the model does not."""
        if not analysis.degraded:
            self.mood = mood_after(self.mood, analysis.sentiment, analysis.sentiment_confidence)


class Conversations:
    """The latest conversations of all tenants."""

    def __init__(self, limit: int = RECENT_CONVERSATIONS) -> None:
        self._recent: Recent[tuple[str, str], Conversation] = Recent(limit)

    def mood(self, tenant_id: str, conversation_id: str | None) -> Mood:
        """The mood of a conversation; empty if it is none of the latest."""
        known = None if conversation_id is None else self._recent.get((tenant_id, conversation_id))
        return {} if known is None else known.mood

    def of(self, draft: TurnDraft) -> Conversation:
        """The conversation of a turn, from now on the latest."""
        key = draft.tenant_id, draft.conversation_id
        conversation = self._recent.get(key) or Conversation()
        self._recent.put(key, conversation)
        return conversation
