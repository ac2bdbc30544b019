"""Examples from turns and labelled texts: labels with their quality, and checks of labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

from karen_learner.curation.alignment import TokenAligner, with_fitting_spans
from karen_learner.records import TASKS, EntitySpan, Example, LabelledText, Source, Task, Turn, UserFeedback
from karen_learner.records.offsets import span_problem
from karen_learner.resolution import stratum, task_labels
from karen_learner.text_identity import draw, example_id, group_key, text_key

Schema = Mapping[Task, Collection[str]]

Unusable = Literal["below_quality", "unlabelled"]
"""`below_quality`: no label reaches the threshold. `unlabelled`: the feedback contains no label."""

UNKNOWN_LABEL = "unknown label"
"""Prefix of the reason for which an example with a label outside the schema is quarantined."""

GOLD = 1.0
CORRECTION = 0.95
CONTRADICTING_CORRECTION = 0.90
VERY_CONFIDENT = 0.95
RATING_CEILING = 0.9
LOWEST_GOOD_RATING = 0.5
UNTRUSTED = 0.6
CONFIDENT_ENOUGH = 0.6
SATISFIED_WITH_ENTITIES = 0.9
"""Minimum satisfaction that confirms detected entities: a rating of the answer is weak evidence of them."""

# Examples ------------------------------------------------------------------------------------


def example_from_turn(
    turn: Turn, *, schema: Schema, aligner: TokenAligner, quality_threshold: float, seed: int = 0
) -> Example | Unusable:
    """The example of a turn with feedback, `pending` or `quarantined`.

    - A correction sets the corrected labels and no others.
    - A rating confirms each detected label whose quality reaches the threshold. Entities need a satisfaction
      of at least 0.9 and another confirmed label. A rating confirms no task outside the schema, no intent of
      an out-of-scope text, and no label of the fallback (`degraded`).
    - Entities that do not fit the tokens are unannotated.
    - A label outside the schema quarantines the example. So do entities alone of which none fits.
    """
    if turn.user_text is None or turn.feedback is None:
        return "unlabelled"
    corrected = turn.feedback.is_correction
    found = _corrected(turn, turn.feedback) if corrected else _confirmed(turn, turn.feedback, schema)
    if not found:
        return "unlabelled"
    trusted = {task: label for task, label in found.items() if label.quality >= quality_threshold}
    if not trusted or (set(trusted) == {"entities"} and not corrected):
        return "below_quality"
    labels: dict[str, Any] = {task: label.value for task, label in trusted.items()}
    labelled = LabelledText(text=turn.user_text, **labels)
    fitted = aligner.fit(labelled.text, labelled.entities or ())
    is_in_text = span_problem(labelled.text, labelled.entities or ()) is None
    if is_in_text and (fitted.spans or set(trusted) != {"entities"}):
        labelled = with_fitting_spans(labelled, fitted)
    return new_example(
        labelled,
        source="correction" if corrected else "rating",
        quality=min(label.quality for label in trusted.values()),
        seed=seed,
        reason=label_problem(labelled, schema=schema, aligner=aligner),
        turn_id=turn.turn_id,
        user_id=turn.metadata.user_id,
    )


class _Label(NamedTuple):
    value: Any
    quality: float


def _corrected(turn: Turn, feedback: UserFeedback) -> dict[Task, _Label]:
    found = turn.metadata
    given: dict[Task, tuple[Any, Any, float]] = {
        "intent": (feedback.corrected_intent, found.intent_detected, found.intent_confidence),
        "sentiment": (feedback.corrected_sentiment, found.sentiment_detected, found.sentiment_confidence),
        "entities": (feedback.corrected_entities, None, 0.0),
    }
    labels: dict[Task, _Label] = {}
    for task, (corrected, detected, confidence) in given.items():
        if corrected is not None:
            # The confidence of the fallback is not that of a model.
            contradicted = not found.degraded and detected not in (None, corrected)
            quality = correction_quality(contradicted_confidence=confidence if contradicted else 0.0)
            labels[task] = _Label(corrected, quality)
    return labels


def _confirmed(turn: Turn, feedback: UserFeedback, schema: Schema) -> dict[Task, _Label]:
    found = turn.metadata
    rating = combined_rating(feedback.satisfaction_score, feedback.response_quality)
    if rating is None or found.degraded:
        return {}
    detected: dict[Task, tuple[Any, float]] = {
        "intent": (None if turn.out_of_scope else found.intent_detected, found.intent_confidence),
        "sentiment": (found.sentiment_detected, found.sentiment_confidence),
    }
    if turn.entities and (feedback.satisfaction_score or 0.0) >= SATISFIED_WITH_ENTITIES:
        spans = tuple(EntitySpan(start=e.start, end=e.end, label=e.label) for e in turn.entities)
        detected["entities"] = (spans, 1.0)
    return {
        task: _Label(label, rating_quality(rating, confidence))
        for task, (label, confidence) in detected.items()
        if label is not None and schema.get(task)
    }


def new_example(
    labelled: LabelledText,
    *,
    source: Source,
    quality: float,
    seed: int = 0,
    reason: str | None = None,
    turn_id: str | None = None,
    user_id: str | None = None,
) -> Example:
    """An example with id, keys, stratum and draw. A `reason` quarantines it."""
    key = text_key(labelled.text)
    name = example_id(key=key, turn_id=turn_id)
    return Example(
        text=labelled.text,
        **{task: getattr(labelled, task) for task in TASKS},
        unannotated=labelled.unannotated,
        example_id=name,
        source=source,
        quality=quality,
        key=key,
        group=group_key(labelled.text),
        stratum=stratum(labelled),
        state="quarantined" if reason else "pending",
        draw=draw(name, seed),
        reason=reason,
        turn_id=turn_id,
        user_id=user_id,
    )


# Checks of labels ----------------------------------------------------------------------------


def label_problem(labelled: LabelledText, *, schema: Schema, aligner: TokenAligner) -> str | None:
    """The reason why these labels cannot be trained on, or None."""
    for task, label in task_labels(labelled):
        if label not in schema.get(task, ()):
            return f"{UNKNOWN_LABEL} {label!r} for {task}"
    if labelled.entities is None:
        return None
    if not schema.get("entities"):
        return "no gold example has entities"
    return span_problem(labelled.text, labelled.entities) or aligner.problem(labelled.text, labelled.entities)


# Quality -------------------------------------------------------------------------------------


def combined_rating(satisfaction: float | None, response_quality: float | None) -> float | None:
    """Rating in 0..1: (2 * satisfaction + response_quality) / 3, or the one that is given, or None."""
    if satisfaction is None or response_quality is None:
        return response_quality if satisfaction is None else satisfaction
    return (2.0 * satisfaction + response_quality) / 3.0


def rating_quality(rating: float, confidence: float) -> float:
    """Quality of a detected label under a combined rating: 0.9 * rating * trust; 0 below a rating of 0.5.

    trust = 0.6 + 0.4 * min(1, confidence / 0.6). A rating judges the answer: it confirms the detected label
    only as far as the model was confident. With a threshold of 0.7, a rating of 0.8 suffices from a
    confidence of 0.58. A rating of 1 suffices from 0.27.
    """
    if rating < LOWEST_GOOD_RATING:
        return 0.0
    trust = UNTRUSTED + (1.0 - UNTRUSTED) * min(1.0, confidence / CONFIDENT_ENOUGH)
    return RATING_CEILING * rating * trust


def correction_quality(*, contradicted_confidence: float = 0.0) -> float:
    """Quality of a corrected label: 0.95, or 0.90 if the model predicted another label with at least 0.95."""
    return CORRECTION if contradicted_confidence < VERY_CONFIDENT else CONTRADICTING_CORRECTION
