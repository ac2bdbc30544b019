"""One turn with its feedback becomes an example to learn from, or the reason why it cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from karen_learner.curation.keys import draw, example_id, group_key, text_key
from karen_learner.curation.quality import combined_rating, correction_quality, rating_quality
from karen_learner.curation.spans import span_problem
from karen_learner.records import (
    EntitySpan,
    Example,
    LabelledText,
    Source,
    Task,
    Turn,
    UserFeedback,
)

Unusable = Literal["below_quality", "unlabelled"]

Schema = Mapping[Task, Collection[str]]
Misfit = Callable[[str, Sequence[EntitySpan]], "str | None"]

SATISFIED_WITH_ENTITIES = 0.9
"""The satisfaction from which detected entities are believed: an answer says little about them."""

UNKNOWN_LABEL = "unknown label"
"""How the reason begins for which an example with a label outside the schema is quarantined."""


def candidate(
    turn: Turn, *, schema: Schema, misfit: Misfit, quality_threshold: float, seed: int = 0
) -> Example | Unusable:
    """The example that a turn makes, `pending` or `quarantined`, in the split `train` for now.

    - A corrected turn makes known what was corrected, and nothing else.
    - A rated turn makes known each detected label whose quality reaches the threshold; the entities
      beside them, if there are any and the satisfaction is at least 0.9. Tasks that the schema does
      not know, intents of texts that are out of scope, and turns that the fallback analysed (`degraded`)
      make nothing known by rating.
    - A label outside the schema, or entities that do not fit the text, quarantine the example.

    `below_quality`: no label is trusted enough. `unlabelled`: the feedback says nothing of any label.
    """
    if turn.user_text is None or turn.feedback is None:
        return "unlabelled"
    corrected = turn.feedback.is_correction
    believed = _corrected(turn, turn.feedback) if corrected else _rated(turn, turn.feedback, schema)
    if not believed:
        return "unlabelled"
    trusted = {task: belief for task, belief in believed.items() if belief.quality >= quality_threshold}
    if not trusted or (set(trusted) == {"entities"} and not corrected):
        return "below_quality"
    labels = {str(task): belief.label for task, belief in trusted.items()}
    labelled = LabelledText(text=turn.user_text, **labels)
    return new_example(
        labelled,
        source="correction" if corrected else "rating",
        quality=min(belief.quality for belief in trusted.values()),
        seed=seed,
        reason=problem(labelled, schema=schema, misfit=misfit),
        turn_id=turn.turn_id,
        user_id=turn.metadata.user_id,
    )


class _Belief(NamedTuple):
    label: Any
    quality: float


_Beliefs = dict[Task, _Belief]


def _corrected(turn: Turn, feedback: UserFeedback) -> _Beliefs:
    found = turn.metadata
    said: dict[Task, tuple[Any, Any, float]] = {
        "intent": (feedback.corrected_intent, found.intent_detected, found.intent_confidence),
        "sentiment": (feedback.corrected_sentiment, found.sentiment_detected, found.sentiment_confidence),
        "entities": (feedback.corrected_entities, None, 0.0),
    }
    beliefs: _Beliefs = {}
    for task, (corrected, detected, confidence) in said.items():
        if corrected is not None:
            # the fallback's confidence is not the model's
            contradicted = not found.degraded and detected not in (None, corrected)
            quality = correction_quality(contradicted_confidence=confidence if contradicted else 0.0)
            beliefs[task] = _Belief(corrected, quality)
    return beliefs


def _rated(turn: Turn, feedback: UserFeedback, schema: Schema) -> _Beliefs:
    rating = combined_rating(feedback.satisfaction_score, feedback.response_quality)
    if rating is None or turn.metadata.degraded:
        return {}
    return {
        task: _Belief(label, rating_quality(rating, confidence))
        for task, (label, confidence) in _detected(turn, feedback).items()
        if label is not None and schema.get(task)
    }


def _detected(turn: Turn, feedback: UserFeedback) -> dict[Task, tuple[Any, float]]:
    found = turn.metadata
    detected: dict[Task, tuple[Any, float]] = {
        "intent": (None if turn.out_of_scope else found.intent_detected, found.intent_confidence),
        "sentiment": (found.sentiment_detected, found.sentiment_confidence),
    }
    if turn.entities and (feedback.satisfaction_score or 0.0) >= SATISFIED_WITH_ENTITIES:
        spans = tuple(EntitySpan(start=e.start, end=e.end, label=e.label) for e in turn.entities)
        detected["entities"] = (spans, 1.0)
    return detected


def problem(labelled: LabelledText, *, schema: Schema, misfit: Misfit) -> str | None:
    """Why these labels must not be trained on, or None."""
    for task, label in task_labels(labelled):
        if label not in schema.get(task, ()):
            return f"{UNKNOWN_LABEL} {label!r} for {task}"
    if labelled.entities is None:
        return None
    if not schema.get("entities"):
        return "no gold example teaches entities"
    spans = labelled.entities
    return span_problem(labelled.text, spans) or misfit(labelled.text, spans)


def task_labels(labelled: LabelledText) -> Iterator[tuple[Task, str]]:
    """Each label of a text with its task; an entity label once for every span."""
    if labelled.intent is not None:
        yield "intent", labelled.intent
    if labelled.sentiment is not None:
        yield "sentiment", labelled.sentiment
    for span in labelled.entities or ():
        yield "entities", span.label


def stratum(labelled: LabelledText) -> str:
    """The label by which sets are balanced and splits are drawn: the intent, else the sentiment, else
    the most frequent entity label (the first in the alphabet of several)."""
    if labelled.intent is not None:
        return labelled.intent
    if labelled.sentiment is not None:
        return f"sentiment:{labelled.sentiment}"
    counted = Counter(span.label for span in labelled.entities or ())
    most = min(counted, key=lambda label: (-counted[label], label), default="none")
    return f"entities:{most}"


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
    """An example with its id, keys, stratum and draw, in the split `train` for now; quarantined if
    there is a reason to."""
    key = text_key(labelled.text)
    name = example_id(key=key, turn_id=turn_id)
    return Example(
        text=labelled.text,
        intent=labelled.intent,
        sentiment=labelled.sentiment,
        entities=labelled.entities,
        example_id=name,
        source=source,
        quality=quality,
        key=key,
        group=group_key(labelled.text),
        stratum=stratum(labelled),
        split="train",
        state="quarantined" if reason else "pending",
        draw=draw(name, seed),
        reason=reason,
        turn_id=turn_id,
        user_id=user_id,
    )
