"""Former labels become their successors: in labelled texts, turns, analyses and predictions.

A former label counts as its successor. A retired label, which has none, is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from karen_learner.records import (
    CATEGORY_TASKS,
    Analysis,
    Contribution,
    Entity,
    EntitySpan,
    Example,
    LabelledText,
    Task,
    Turn,
    UserFeedback,
)
from karen_learner.records.labels import Successors
from karen_learner.records.training import Predicted
from karen_learner.resolution import stratum

TextT = TypeVar("TextT", bound=LabelledText)
SpanT = TypeVar("SpanT", EntitySpan, Entity)


def present_label(successors: Successors, task: Task, label: str | None) -> str | None:
    """The successor of a former label, None for a retired one; other labels unchanged."""
    if label is None:
        return None
    return successors.get(task, {}).get(label, label)


def without_retired(successors: Successors) -> Successors:
    """The former labels that have a successor: gold with a retired label declares it anew."""
    return {
        task: {label: successor for label, successor in former.items() if successor is not None}
        for task, former in successors.items()
    }


def relabelled(labelled: TextT, successors: Successors) -> TextT:
    """The labelled text with the present labels, and an example with the stratum that follows from them."""
    changes = _changes(labelled, successors)
    if not changes:
        return labelled
    changed = labelled.model_copy(update=changes)
    if isinstance(changed, Example):
        return changed.model_copy(update={"stratum": stratum(changed)})
    return changed


def has_former_label(labelled: LabelledText, successors: Successors) -> bool:
    """Whether a label of the text is a former one."""
    return bool(_changes(labelled, successors))


def _changes(labelled: LabelledText, successors: Successors) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for task in CATEGORY_TASKS:
        label = getattr(labelled, task)
        if (present := present_label(successors, task, label)) != label:
            changes[task] = present
    spans = _spans(labelled.entities, successors)
    if spans != labelled.entities:
        changes["entities"] = spans
    return changes


def _spans(spans: tuple[SpanT, ...] | None, successors: Successors) -> tuple[SpanT, ...] | None:
    """The spans with present labels, without those of retired labels."""
    former = successors.get("entities")
    if not spans or not former:
        return spans
    return tuple(
        span if label == span.label else span.model_copy(update={"label": label})
        for span in spans
        if (label := former.get(span.label, span.label)) is not None
    )


def relabelled_contribution(contribution: Contribution, successors: Successors) -> Contribution:
    """A contribution with the present labels. One whose only label is retired keeps it, with the reason."""
    changed = relabelled(contribution, successors)
    if changed.tasks or not contribution.tasks:
        return changed
    task = contribution.tasks[0]
    return contribution.model_copy(
        update={"reason": f"the {task} {getattr(contribution, task)!r} is retired"}
    )


def relabelled_turn(turn: Turn, successors: Successors) -> Turn:
    """A turn with the present labels in its analysis and its feedback."""
    if not successors:
        return turn
    metadata = turn.metadata
    detected = {
        f"{task}_detected": present_label(successors, task, getattr(metadata, f"{task}_detected"))
        for task in CATEGORY_TASKS
    }
    return turn.model_copy(
        update={
            "metadata": metadata.model_copy(update=detected),
            "entities": _spans(turn.entities, successors) or (),
            "feedback": turn.feedback and _relabelled_feedback(turn.feedback, successors),
        }
    )


def _relabelled_feedback(feedback: UserFeedback, successors: Successors) -> UserFeedback:
    corrected = {
        f"corrected_{task}": present_label(successors, task, getattr(feedback, f"corrected_{task}"))
        for task in CATEGORY_TASKS
    }
    corrected_entities = _spans(feedback.corrected_entities, successors)
    return feedback.model_copy(update={**corrected, "corrected_entities": corrected_entities})


def relabelled_analysis(analysis: Analysis, successors: Successors) -> Analysis:
    """An analysis of a model that knows former labels. A retired label is no answer: its confidence is 0."""
    changes: dict[str, Any] = {"entities": _spans(analysis.entities, successors)}
    for task in CATEGORY_TASKS:
        label = getattr(analysis, task)
        if (present := present_label(successors, task, label)) != label:
            changes[task] = present
            if present is None:
                changes[f"{task}_confidence"] = 0.0
    return analysis.model_copy(update=changes)


def relabelled_predictions(predicted: Sequence[Predicted], successors: Successors) -> tuple[Predicted, ...]:
    """Predictions of a model that knows former labels."""
    if not successors:
        return tuple(predicted)
    return tuple(_relabelled_prediction(one, successors) for one in predicted)


def _relabelled_prediction(predicted: Predicted, successors: Successors) -> Predicted:
    intent, sentiment, spans = predicted.row
    former = successors.get("entities", {})
    present = (
        None
        if spans is None
        else tuple(
            (start, end, label) for start, end, old in spans if (label := former.get(old, old)) is not None
        )
    )
    row = (
        present_label(successors, "intent", intent),
        present_label(successors, "sentiment", sentiment),
        present,
    )
    return predicted.model_copy(update={"row": row})
