"""How the conversations sound that are going on: what the model said of their latest turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from karen_learner.collection.recent import Recent
from karen_learner.collection.turns import TurnDraft
from karen_learner.components.moods import mood_after
from karen_learner.records import NO_MOOD, Analysis, Mood

RECENT_CONVERSATIONS = 4_096
"""So many conversations are followed at a time. One that goes on later, or after a restart, begins anew."""
TURNS_IN_MOOD = 16
"""So many turns make a mood: what one before them would add is below a hundredth."""


class Conversation:
    """What was said of its latest turns. `turn` is held until a turn was analysed: the next one must hear how
    that sounded."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._heard: Recent[str, tuple[str | None, float]] = Recent(TURNS_IN_MOOD)

    def mood(self, *, without: str | None = None) -> Mood:
        """The mood so far, `without` a turn that is heard anew."""
        mood = NO_MOOD
        for turn_id, (sentiment, confidence) in self._heard.items():
            if turn_id != without:
                mood = mood_after(mood, sentiment, confidence)
        return mood

    def hear(self, turn_id: str, analysis: Analysis) -> bool:
        """Let a turn count, once; whether it does now. What rules said instead of the model does not."""
        if analysis.degraded or turn_id in self._heard:
            return False
        self._heard.put(turn_id, (analysis.sentiment, analysis.sentiment_confidence))
        return True

    def forget(self, turn_id: str) -> None:
        """Let a turn count no more: it was not stored, or must not be learned from."""
        self._heard.drop(turn_id)


class Conversations:
    """The latest conversations of all tenants."""

    def __init__(self, limit: int = RECENT_CONVERSATIONS) -> None:
        self._recent: Recent[tuple[str, str], Conversation] = Recent(limit)

    def find(self, tenant_id: str, conversation_id: str) -> Conversation | None:
        """A conversation, if it is one of the latest."""
        return self._recent.get((tenant_id, conversation_id))

    @asynccontextmanager
    async def turn_of(self, draft: TurnDraft) -> AsyncIterator[Conversation]:
        """The conversation of a turn, from now on the latest; its other turns wait. A turn that names no
        conversation has one of its own, which is not remembered."""
        key = draft.tenant_id, draft.conversation_id
        conversation = self._recent.get(key) or Conversation()
        if draft.conversation_id_given:
            self._recent.put(key, conversation)
        async with conversation.turn:
            yield conversation
