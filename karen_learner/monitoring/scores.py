"""The score of a prediction when its answer is known, for labels, numbers and structures. Pure.

- Equal values score 1.
- Numbers: 1 minus the relative error, at least 0. The relative error is that to the larger absolute value.
- Mappings: the mean over the fields of both; a missing field scores 0.
- Sequences: the mean over the places of the longer one.
- Texts: equal after case folding and collapsing of white space, else 0. All other pairs score 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from karen_learner.curation.examples import combined_rating
from karen_learner.records import Outcome, Turn
from karen_learner.records.outcomes import TURN_OUTCOME

MAX_DEPTH = 20
"""Levels of nested values that are compared; deeper ones must be equal."""
AGENT = "language_understanding"
GOOD_RATING = 0.5


def match_score(predicted: Any, actual: Any, *, depth: int = 0) -> float:
    """The score of `predicted` against `actual`, 0 to 1."""
    if isinstance(predicted, bool) or isinstance(actual, bool):
        return float(predicted is actual)
    if isinstance(predicted, (int, float)) and isinstance(actual, (int, float)):
        return _of_numbers(predicted, actual)
    if isinstance(predicted, str) and isinstance(actual, str):
        return float(_plain(predicted) == _plain(actual))
    if depth < MAX_DEPTH and isinstance(predicted, Mapping) and isinstance(actual, Mapping):
        names = predicted.keys() | actual.keys()
        both = predicted.keys() & actual.keys()
        total = sum(match_score(predicted[name], actual[name], depth=depth + 1) for name in both)
        return total / len(names) if names else 1.0
    if depth < MAX_DEPTH and _is_sequence(predicted) and _is_sequence(actual):
        longer = max(len(predicted), len(actual))
        pairs = zip(predicted, actual, strict=False)
        return sum(match_score(*pair, depth=depth + 1) for pair in pairs) / longer if longer else 1.0
    return float(predicted == actual)


def _of_numbers(predicted: float, actual: float) -> float:
    if predicted == actual:
        return 1.0
    try:
        if not (math.isfinite(predicted) and math.isfinite(actual)):
            return 0.0
    except OverflowError:  # an integer beyond the range of a float
        return 0.0
    largest = max(abs(predicted), abs(actual))
    return max(0.0, 1.0 - abs(predicted / largest - actual / largest))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


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
        outcome_id=f"{TURN_OUTCOME}{turn.turn_id}",
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
