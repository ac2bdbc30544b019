"""Turns of conversations, with their analyses and feedback; the content that they lose without consent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field, field_validator

from karen_learner.records.base import Features, Label, Record, Score
from karen_learner.records.texts import Entity, EntitySpan
from karen_learner.text_identity import clean_label

POOR_RATING = 0.5
"""Ratings below this mark an error in the answer."""


class UserFeedback(Record):
    """Feedback of a user on an answer. Missing parts are unknown.

    `corrected_entities=()`: the text has no entities. `consent=False`: the turn must not be learned from.
    """

    satisfaction_score: Score | None = None
    response_quality: Score | None = None
    corrected_intent: Label | None = None
    corrected_sentiment: Label | None = None
    corrected_entities: tuple[EntitySpan, ...] | None = None
    consent: bool | None = None
    comment: str | None = Field(default=None, max_length=10_000)

    @field_validator("corrected_intent", "corrected_sentiment", mode="before")
    @classmethod
    def _clean_label(cls, label: Any) -> Any:
        """The label in composed form; `parse_feedback` refuses blank ones, which old turns may have."""
        return clean_label(label) or label if isinstance(label, str) else label

    @field_validator("corrected_entities")
    @classmethod
    def _clean_labels(cls, spans: tuple[EntitySpan, ...] | None) -> tuple[EntitySpan, ...] | None:
        return spans and tuple(
            span.model_copy(update={"label": clean_label(span.label) or span.label}) for span in spans
        )

    @property
    def is_correction(self) -> bool:
        return (
            self.corrected_intent is not None
            or self.corrected_sentiment is not None
            or self.corrected_entities is not None
        )

    def reports_error(
        self, *, intent: str | None, sentiment: str | None, entities: Iterable[Entity] | None
    ) -> bool:
        """Whether the detected labels need correction: they differ from the corrections, or a rating is poor.

        `entities` are None if they are no longer stored; then any corrected entities count as different.
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
        """This feedback, overwritten by the known parts of `later`."""
        return self.model_copy(update={name: value for name, value in later if value is not None})

    def without_content(self) -> UserFeedback:
        """Ratings and consent alone: no labels and no comment."""
        return UserFeedback(
            satisfaction_score=self.satisfaction_score,
            response_quality=self.response_quality,
            consent=self.consent,
        )


class Analysis(Record):
    """Analysis of a text by the live model or, if `degraded`, by the fallback."""

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
    """Analysis and feedback of one turn, without its texts."""

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
    """One conversation turn in the store.

    `user_text` and `assistant_response` are None without consent (see `without_content`). The store assigns
    `seq`: unique, and within a tenant in the order of commits; None before the turn is stored. `entities` are
    the detected ones; `out_of_scope` is the model's.
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

    @property
    def is_permitted(self) -> bool:
        """Whether the turn has text, and its user did not refuse consent to learn from it."""
        refused = self.feedback is not None and self.feedback.consent is False
        return self.user_text is not None and not refused

    def with_feedback(self, feedback: UserFeedback) -> Turn:
        """The turn with `feedback` merged in and its metadata updated; `permitted()` applies."""
        merged = feedback if self.feedback is None else self.feedback.merged_with(feedback)
        metadata = self.metadata.model_copy(update=self._feedback_metadata(merged))
        return self.model_copy(update={"metadata": metadata, "feedback": merged}).permitted()

    def permitted(self) -> Turn:
        """The turn as it may be stored: without content if consent is refused or its text was removed."""
        return self if self.is_permitted else self.without_content()

    def without_content(self) -> Turn:
        """The turn without texts, entities, linguistic features, comment and corrections.

        The detected labels, the persona and the ratings remain for statistics.
        """
        metadata = self.metadata.model_copy(update={"entities_extracted": (), "linguistic_features": {}})
        return self.model_copy(
            update={
                "metadata": metadata,
                "user_text": None,
                "assistant_response": None,
                "entities": (),
                "feedback": self.feedback and self.feedback.without_content(),
            }
        )

    def _feedback_metadata(self, feedback: UserFeedback) -> dict[str, Any]:
        metadata = self.metadata
        satisfaction, quality = feedback.satisfaction_score, feedback.response_quality
        return {
            "user_satisfaction": metadata.user_satisfaction if satisfaction is None else satisfaction,
            "response_quality": metadata.response_quality if quality is None else quality,
            "feedback_provided": True,
            "correction_needed": feedback.reports_error(
                intent=metadata.intent_detected,
                sentiment=metadata.sentiment_detected,
                entities=None if self.user_text is None else self.entities,
            ),
        }

    def with_seq(self, seq: int) -> Turn:
        """The turn with the number that the store assigned.

        `model_copy(update={"seq": seq})` at a third of its cost: it runs for every stored and read turn.
        """
        copy = Turn.__new__(Turn)
        object.__setattr__(copy, "__dict__", {**self.__dict__, "seq": seq})
        object.__setattr__(copy, "__pydantic_fields_set__", self.__pydantic_fields_set__ | {"seq"})
        object.__setattr__(copy, "__pydantic_extra__", None)
        object.__setattr__(copy, "__pydantic_private__", None)
        return copy


@dataclass(frozen=True, kw_only=True)
class AwaitingTurn:
    """A turn that awaits curation. `revision` counts the changes by later feedback."""

    turn: Turn
    revision: int

    @property
    def seq(self) -> int:
        return self.turn.seq or 0

    @property
    def mark(self) -> tuple[int, int]:
        """Entry of this turn in `CurationWrite.curated`."""
        return self.seq, self.revision
