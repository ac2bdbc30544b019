"""The outcomes of turns with feedback: how the model that answered did. Pure."""

from __future__ import annotations

from karen_learner.curation.examples import combined_rating
from karen_learner.records import Outcome, Turn

AGENT = "language_understanding"
GOOD_RATING = 0.5


def outcome_of(turn: Turn) -> Outcome | None:
    """The outcome of a turn with feedback; None without feedback.

    A corrected intent scores 1 if it equals the detected one, else 0. Another correction scores 0. A good
    rating confirms the detected intent; a poor rating says nothing about it. The id follows from the turn, so
    later feedback on a turn adds no outcome. No text of the user is part of it.
    """
    feedback, found = turn.feedback, turn.metadata
    if feedback is None:
        return None
    rating = combined_rating(feedback.satisfaction_score, feedback.response_quality)
    score: float | None = None
    if feedback.corrected_intent is not None:
        score = float(feedback.corrected_intent == found.intent_detected)
    elif feedback.is_correction:
        score = 0.0
    elif rating is not None and rating >= GOOD_RATING:
        score = 1.0
    return Outcome(
        outcome_id=f"turn/{turn.turn_id}",
        source="turn",
        agent=AGENT,
        strategy="fallback" if found.degraded else "model",
        version=found.model_version,
        task_id=turn.turn_id,
        predicted=found.intent_detected,
        actual=feedback.corrected_intent,
        score=score,
        rating=rating,
    )
