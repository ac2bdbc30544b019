"""A turn of a conversation: what the model said of it, what its user said of that, what is kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import Field

from karen_learner.records.base import Features, Label, Record, Score
from karen_learner.records.texts import Entity, Span

POOR_RATING = 0.5
"""A rating below this says that something about the answer was wrong."""


class UserFeedback(Record):
    """What a user said of an answer. Every part may be absent: absent means unknown.

    `corrected_entities=()` says "there are none here". `consent=False` says "do not learn from me".
    """

    satisfaction_score: Score | None = None
    response_quality: Score | None = None
    corrected_intent: Label | None = None
    corrected_sentiment: Label | None = None
    corrected_entities: tuple[Span, ...] | None = None
    consent: bool | None = None
    comment: str | None = Field(default=None, max_length=10_000)

    @property
    def is_correction(self) -> bool:
        return (
            self.corrected_intent is not None
            or self.corrected_sentiment is not None
            or self.corrected_entities is not None
        )

    def finds_fault(
        self, *, intent: str | None, sentiment: str | None, entities: Iterable[Entity] | None
    ) -> bool:
        """Whether what was detected needs correction: the user says otherwise, or rates the answer below
        one half. `entities` are None where they are no longer known; any corrected ones then count.
        """
        ratings = (self.satisfaction_score, self.response_quality)
        return (
            any(rating is not None and rating < POOR_RATING for rating in ratings)
            or self.corrected_intent not in (None, intent)
            or self.corrected_sentiment not in (None, sentiment)
            or self._corrects(entities)
        )

    def _corrects(self, entities: Iterable[Entity] | None) -> bool:
        if self.corrected_entities is None or entities is None:
            return self.corrected_entities is not None
        corrected = {(span.start, span.end, span.label) for span in self.corrected_entities}
        return corrected != {(entity.start, entity.end, entity.label) for entity in entities}

    def merged_with(self, later: UserFeedback) -> UserFeedback:
        """This feedback with everything that `later` states put over it."""
        return self.model_copy(update=later.model_dump(exclude_none=True) | later._kept_spans())

    def _kept_spans(self) -> dict[str, Any]:
        spans = self.corrected_entities
        return {} if spans is None else {"corrected_entities": spans}


class Analysis(Record):
    """What the live model, or the fallback (`degraded`), says of a text."""

    intent: str | None
    intent_confidence: Score
    out_of_scope: bool = False
    sentiment: str | None
    sentiment_confidence: Score
    entities: tuple[Entity, ...] = ()
    linguistic_features: Features = Field(default_factory=dict)
    degraded: bool = False
    model_version: str | None = None


class ConversationMetadata(Record):
    """One turn as it was understood and remembered, without its words."""

    conversation_id: str
    turn_id: str
    tenant_id: str
    user_id: str
    intent_detected: str | None
    intent_confidence: Score
    sentiment_detected: str | None
    sentiment_confidence: Score
    persona_selected: str
    user_satisfaction: Score | None
    response_quality: Score | None
    entities_extracted: tuple[tuple[str, str], ...]
    linguistic_features: Features
    feedback_provided: bool
    correction_needed: bool
    degraded: bool
    model_version: str | None
    occurred_at: datetime


class Turn(Record):
    """One conversation turn as the store keeps it.

    `user_text` and `assistant_response` are None where the user did not consent: then nothing that
    could be learned from is kept. `seq` is given by the store, grows with every new turn of any
    tenant, and is None before the turn is stored. `entities` are those that were detected;
    `out_of_scope`: the model found that the text is none of its intents' business.
    """

    metadata: ConversationMetadata
    user_text: str | None
    assistant_response: str | None
    entities: tuple[Entity, ...] = ()
    out_of_scope: bool = False
    feedback: UserFeedback | None = None
    seq: int | None = None

    @property
    def tenant_id(self) -> str:
        return self.metadata.tenant_id

    @property
    def turn_id(self) -> str:
        return self.metadata.turn_id
