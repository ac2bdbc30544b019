"""What feedback makes of a turn. Pure functions of values."""

from __future__ import annotations

from typing import Any

from karen_learner.records import Example, Turn, UserFeedback

CONSENT = "consent"
"""The reason of examples that are quarantined because their author does not want to be learned from."""


def with_feedback(turn: Turn, feedback: UserFeedback) -> Turn:
    """The turn with `feedback` merged in; its metadata follows. Refused consent takes its words."""
    merged = feedback if turn.feedback is None else turn.feedback.merged_with(feedback)
    metadata = turn.metadata.model_copy(update=_judged(turn, merged))
    return as_kept(turn.model_copy(update={"metadata": metadata, "feedback": merged}))


def as_kept(turn: Turn) -> Turn:
    """The turn as it may be stored: itself, or without its words where consent is lacking."""
    return turn if turn.user_text is not None and not is_refused(turn.feedback) else without_words(turn)


def without_words(turn: Turn) -> Turn:
    """The turn with nothing left of what was said, nor of what could be learned from it."""
    bare: dict[str, Any] = {"entities_extracted": (), "linguistic_features": {}}
    return turn.model_copy(
        update={
            "metadata": turn.metadata.model_copy(update=bare),
            "user_text": None,
            "assistant_response": None,
            "entities": (),
            "feedback": turn.feedback and _ratings(turn.feedback),
        }
    )


def awaits_curation(turn: Turn) -> bool:
    """Whether there is something to learn from: feedback on words that may be used."""
    return turn.feedback is not None and turn.user_text is not None and not is_refused(turn.feedback)


def is_refused(feedback: UserFeedback | None) -> bool:
    """Whether the user said not to learn from this."""
    return feedback is not None and feedback.consent is False


def withdrawn(example: Example) -> Example:
    """The example without its words, out of use, and no longer to be found by digests of them."""
    nowhere = f"withdrawn/{example.example_id}"
    return example.model_copy(
        update={
            "text": "",
            "entities": None,
            "key": nowhere,
            "group": nowhere,
            "state": "quarantined",
            "reason": CONSENT,
        }
    )


def _ratings(feedback: UserFeedback) -> UserFeedback:
    return UserFeedback(
        satisfaction_score=feedback.satisfaction_score,
        response_quality=feedback.response_quality,
        consent=feedback.consent,
    )


def _judged(turn: Turn, feedback: UserFeedback) -> dict[str, Any]:
    metadata = turn.metadata
    satisfaction, quality = feedback.satisfaction_score, feedback.response_quality
    return {
        "user_satisfaction": metadata.user_satisfaction if satisfaction is None else satisfaction,
        "response_quality": metadata.response_quality if quality is None else quality,
        "feedback_provided": True,
        "correction_needed": feedback.finds_fault(
            intent=metadata.intent_detected,
            sentiment=metadata.sentiment_detected,
            entities=None if turn.user_text is None else turn.entities,
        ),
    }
