"""How two words about the same text stand to each other, and what they make together.

A word is what an example says of its text: the labels, who says so, and how far that is trusted. The
rest of an example (its id, key, split, state) is the row on which the word stands.
"""

from __future__ import annotations

from typing import Any

from karen_learner.curation.candidates import stratum
from karen_learner.curation.keys import normalised
from karen_learner.curation.quality import agreed_quality
from karen_learner.records import TASKS, Example, LabelledText, Task

WORD = (
    "text",
    "intent",
    "sentiment",
    "entities",
    "source",
    "quality",
    "stratum",
    "users",
    "user_id",
    "turn_id",
)


def on_row(row: Example, word: Example, **changes: Any) -> Example:
    """The row of one example with the word of another."""
    return row.model_copy(update={field: getattr(word, field) for field in WORD} | changes)


def disputed(one: Example, other: Example) -> tuple[Task, ...]:
    """The tasks for which both have a label, and not the same."""
    return tuple(
        task for task in TASKS if _label(one, task) != _label(other, task) and _both_know(one, other, task)
    )


def same_labels(one: Example, other: Example) -> bool:
    """Whether both say the same of the same tasks."""
    return one.tasks == other.tasks and not disputed(one, other)


def _both_know(one: Example, other: Example, task: Task) -> bool:
    return getattr(one, task) is not None and getattr(other, task) is not None


def _label(labelled: LabelledText, task: Task) -> Any:
    """The label in a form that does not depend on spaces and punctuation around the text."""
    label = getattr(labelled, task)
    if task != "entities" or label is None:
        return label
    return sorted((normalised(labelled.text[span.start : span.end]), span.label) for span in label)


def same_voter(word: Example, newcomer: Example) -> bool:
    """Whether nobody but the newcomer's user stands behind a word."""
    return word.users == 1 and not _other_user(word, newcomer)


def _other_user(word: Example, newcomer: Example) -> bool:
    if word.turn_id is not None and word.turn_id == newcomer.turn_id:
        return False
    return word.user_id is None or word.user_id != newcomer.user_id


def restated(word: Example, newcomer: Example) -> Example:
    """What a user's older word becomes by a newer one: the newer wins, but a rating not over the user's
    own correction. A turn that is read again replaces what was read from it before."""
    if word.turn_id is not None and word.turn_id == newcomer.turn_id:
        return on_row(word, newcomer)
    if not disputed(word, newcomer):
        return agreed(word, newcomer)
    if word.source == "correction" and newcomer.source == "rating":
        return word
    if set(newcomer.tasks) >= set(word.tasks):
        return overlaid(word, newcomer, quality=newcomer.quality, source=newcomer.source)
    return overlaid(
        word, newcomer, quality=min(word.quality, newcomer.quality), source=_weaker(word, newcomer)
    )


def agreed(word: Example, newcomer: Example) -> Example:
    """What a word becomes by another that does not dispute it.

    The same labels from somebody else: one user more, and the doubt halves. Labels of other tasks are
    united with it only where a single user stands behind each, so that `users` stays the number of
    people who agree on every label. Fewer labels add nothing.
    """
    if word.tasks == newcomer.tasks:
        return _strengthened(word, newcomer)
    if word.users > 1 or set(newcomer.tasks) <= set(word.tasks):
        return word
    quality = min(word.quality, newcomer.quality)
    return overlaid(word, newcomer, quality=quality, source=_weaker(word, newcomer))


def _strengthened(word: Example, newcomer: Example) -> Example:
    further = newcomer.users if _other_user(word, newcomer) else 0
    return word.model_copy(
        update={
            "users": word.users + further,
            "quality": agreed_quality(max(word.quality, newcomer.quality), further),
            "source": "correction" if "correction" in (word.source, newcomer.source) else word.source,
        }
    )


def _weaker(word: Example, newcomer: Example) -> str:
    return "rating" if "rating" in (word.source, newcomer.source) else "correction"


def overlaid(word: Example, newcomer: Example, **changes: Any) -> Example:
    """The labels of the newcomer over those of the word.

    Two texts with one key may differ in spaces and outer punctuation, so entities stay with the text in
    which their offsets count, and the text with the turn and the user it comes from.
    """
    keeps_text = newcomer.entities is None and word.entities is not None
    home = word if keeps_text else newcomer
    fields = {name: getattr(home, name) for name in ("text", "entities", "turn_id", "user_id")}
    fields["intent"] = newcomer.intent if newcomer.intent is not None else word.intent
    fields["sentiment"] = newcomer.sentiment if newcomer.sentiment is not None else word.sentiment
    united = word.model_copy(update=fields | changes)
    return united.model_copy(update={"stratum": stratum(united)})
