"""Turns and examples with only the fields that a test sets."""

from __future__ import annotations

from typing import Any

from karen_learner.curation.examples import new_example
from karen_learner.records import (
    ConversationMetadata,
    Entity,
    Example,
    LabelledText,
    Turn,
    UserFeedback,
    utc_now,
)

SCHEMA = {
    "intent": ("billing", "cancel", "refund", "upgrade"),
    "sentiment": ("negative", "neutral", "positive"),
    "entities": ("CITY", "PLAN"),
}


def metadata(**changes: Any) -> ConversationMetadata:
    values: dict[str, Any] = {
        "conversation_id": "c1",
        "turn_id": "t1",
        "tenant_id": "acme",
        "user_id": "ann",
        "intent_detected": "billing",
        "intent_confidence": 0.8,
        "sentiment_detected": "neutral",
        "sentiment_confidence": 0.8,
        "persona_selected": "assistant",
        "user_satisfaction": None,
        "response_quality": None,
        "entities_extracted": (),
        "linguistic_features": {},
        "feedback_provided": True,
        "correction_needed": False,
        "degraded": False,
        "model_version": "v1",
        "occurred_at": utc_now(),
    }
    return ConversationMetadata(**values | changes)


def turn(
    text: str | None = "where is my bill",
    *,
    feedback: dict[str, Any] | None = None,
    entities: tuple[tuple[int, int, str], ...] = (),
    seq: int | None = None,
    **changes: Any,
) -> Turn:
    found = tuple(Entity(start=s, end=e, label=label, text=(text or "")[s:e]) for s, e, label in entities)
    return Turn(
        metadata=metadata(**changes),
        user_text=text,
        assistant_response="Here it is.",
        entities=found,
        feedback=None if feedback is None else UserFeedback(**feedback),
        seq=seq,
    )


def gold(text: str = "where is my bill", *, source: Any = "seed", **labels: Any) -> Example:
    return new_example(LabelledText(text=text, **labels), source=source, quality=1.0)


def annotation(
    user: str = "ann",
    text: str = "where is my bill",
    *,
    turn_id: str | None = None,
    source: Any = "correction",
    quality: float = 0.95,
    reason: str | None = None,
    **labels: Any,
) -> Example:
    """The annotation of one user."""
    labels = labels or {"intent": "billing"}
    labelled = LabelledText(text=text, **labels)
    return new_example(
        labelled,
        source=source,
        quality=quality,
        reason=reason,
        user_id=user,
        turn_id=turn_id or f"turn of {user}",
    )
