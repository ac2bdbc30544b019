"""Labels of one text that contradict each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from karen_learner.records import CATEGORY_TASKS, LabelledText, Task
from karen_learner.text_identity import normalised


class Statement(NamedTuple):
    """A label that a text has, and its place: a line of a file, or None for stored gold."""

    label: Hashable
    line: int | None


def stated_labels(labelled: LabelledText) -> dict[Task, Hashable]:
    """The known labels by task, comparable between texts that differ in case or outer punctuation alone.

    An entity is its words, its label and the number of earlier occurrences of its words. Partially annotated
    entities are left out: they cannot be compared as a whole.
    """
    known: dict[Task, Hashable] = {
        task: label for task in CATEGORY_TASKS if (label := getattr(labelled, task)) is not None
    }
    if labelled.entities is not None and not labelled.unannotated:
        known["entities"] = tuple(_entities(labelled))
    return known


def _entities(labelled: LabelledText) -> Iterable[tuple[str, str, int]]:
    for span in sorted(labelled.entities or (), key=lambda span: span.start):
        words = labelled.text[span.start : span.end]
        yield normalised(words), span.label, labelled.text.count(words, 0, span.start)


def contradiction(labels: Mapping[Task, Hashable], stated: Mapping[Task, Statement]) -> str | None:
    """The first label that contradicts an earlier statement about the same text, as a sentence."""
    for task, label in labels.items():
        earlier = stated.get(task)
        if earlier is not None and earlier.label != label:
            where = "stored gold" if earlier.line is None else f"line {earlier.line}"
            return f"{task} {described(label)} contradicts {described(earlier.label)} of {where}"
    return None


def described(label: Hashable) -> str:
    """A label in messages. Entities are described by their labels: their words are those of users."""
    if not isinstance(label, tuple):
        return repr(label)
    return ", ".join(repr(name) for _, name, _ in label) if label else "none"
