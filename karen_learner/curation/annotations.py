"""Comparison and merging of two annotations of one text.

An `Example` contains the annotation: ANNOTATION names its fields. The other fields (id, key, split, state)
belong to the stored example.
"""

from __future__ import annotations

from typing import Any

from karen_learner.curation.examples import agreed_quality, normalised, stratum
from karen_learner.records import Example, LabelledText, Task

ANNOTATION = (*LabelledText.model_fields, "source", "quality", "stratum", "users", "user_id", "turn_id")


def annotated(example: Example, annotation: Example, **changes: Any) -> Example:
    """The stored example with another annotation."""
    return example.model_copy(update={field: getattr(annotation, field) for field in ANNOTATION} | changes)


def disputed(one: Example, other: Example) -> tuple[Task, ...]:
    """The tasks for which both have a label and the labels differ."""
    both = [task for task in one.tasks if task in other.tasks]
    return tuple(task for task in both if _label(one, task) != _label(other, task))


def same_labels(one: Example, other: Example) -> bool:
    """Whether both have the same labels for the same tasks."""
    return one.tasks == other.tasks and not disputed(one, other)


def _label(labelled: LabelledText, task: Task) -> Any:
    """The label in a form that is independent of spaces and punctuation around the text."""
    if task != "entities":
        return getattr(labelled, task)
    spans = labelled.entities or ()
    return sorted((normalised(labelled.text[span.start : span.end]), span.label) for span in spans)


def same_user(annotation: Example, newer: Example) -> bool:
    """Whether the user of the newer annotation is the only user of the other one."""
    return annotation.users == 1 and not _other_user(annotation, newer)


def _other_user(annotation: Example, newer: Example) -> bool:
    if _same_turn(annotation, newer):
        return False
    return annotation.user_id is None or annotation.user_id != newer.user_id


def _same_turn(annotation: Example, newer: Example) -> bool:
    return annotation.turn_id is not None and annotation.turn_id == newer.turn_id


def updated(annotation: Example, newer: Example) -> Example:
    """A user's annotation after a newer one of the same user.

    The newer labels win, except that a rating does not replace a correction. The annotation of the same
    turn is replaced as a whole.
    """
    if _same_turn(annotation, newer):
        return annotated(annotation, newer)
    if not disputed(annotation, newer):
        return agreed(annotation, newer)
    if annotation.source == "correction" and newer.source == "rating":
        return annotation
    if set(newer.tasks) >= set(annotation.tasks):
        return overlaid(annotation, newer, quality=newer.quality, source=newer.source)
    return _overlaid_with_weaker_trust(annotation, newer)


def agreed(annotation: Example, newer: Example) -> Example:
    """An annotation after another one that disputes no label.

    The same labels of another user increase `users` and `quality`. Labels of other tasks are added only if
    each annotation has a single user, because all `users` agree on every label. A subset of the labels adds
    nothing.
    """
    if annotation.tasks == newer.tasks:
        return _confirmed(annotation, newer)
    if annotation.users > 1 or set(newer.tasks) <= set(annotation.tasks):
        return annotation
    return _overlaid_with_weaker_trust(annotation, newer)


def _confirmed(annotation: Example, newer: Example) -> Example:
    further = newer.users if _other_user(annotation, newer) else 0
    quality = agreed_quality(max(annotation.quality, newer.quality), further)
    source = "correction" if newer.source == "correction" else annotation.source
    return annotation.model_copy(
        update={"users": annotation.users + further, "quality": quality, "source": source}
    )


def _overlaid_with_weaker_trust(annotation: Example, newer: Example) -> Example:
    """Both sets of labels, with the lower quality and the weaker source."""
    quality = min(annotation.quality, newer.quality)
    source = "rating" if "rating" in (annotation.source, newer.source) else "correction"
    return overlaid(annotation, newer, quality=quality, source=source)


def overlaid(annotation: Example, newer: Example, **changes: Any) -> Example:
    """The labels of the newer annotation over those of the other.

    Texts with the same key may differ in spaces and outer punctuation. So entities keep the text that their
    offsets refer to, and the text keeps its turn and user.
    """
    keeps_text = newer.entities is None and annotation.entities is not None
    origin = annotation if keeps_text else newer
    fields = {name: getattr(origin, name) for name in ("text", "entities", "turn_id", "user_id")}
    fields["intent"] = newer.intent if newer.intent is not None else annotation.intent
    fields["sentiment"] = newer.sentiment if newer.sentiment is not None else annotation.sentiment
    united = annotation.model_copy(update=fields | changes)
    return united.model_copy(update={"stratum": stratum(united)})
