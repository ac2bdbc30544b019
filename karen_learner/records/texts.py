"""Texts and their labels: spans, labelled texts, curated examples, and contributions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import Field, model_validator

from karen_learner.records.base import (
    CATEGORY_TASKS,
    GOLD_SOURCES,
    TASKS,
    ExampleState,
    Label,
    Record,
    Score,
    Source,
    Task,
    utc_now,
)
from karen_learner.records.offsets import has_words, in_characters
from karen_learner.text_identity import clean_label

NO_CONSENT = "consent"
"""`Example.reason` after the user of its turn refused or withdrew consent."""
ROLLED_BACK = "rolled back"
"""`Example.reason` of examples that wait because of a rollback. `learned_in` is the undone version."""
DUPLICATE = "duplicate"
"""`Example.reason` of an example whose text has the key of a newer one."""
DISCARDED = "discarded"
"""`Example.reason` of examples that a person discarded after a rollback."""


class EntitySpan(Record):
    """A labelled span of a text. It is also read from the corpus form `[start, end, label]`."""

    start: int = Field(ge=0)
    end: int = Field(gt=0)
    label: Label

    @model_validator(mode="before")
    @classmethod
    def _from_triple(cls, values: Any) -> Any:
        if isinstance(values, (list, tuple)) and len(values) == 3:
            return dict(zip(("start", "end", "label"), values, strict=True))
        return values

    @model_validator(mode="after")
    def _ordered(self) -> EntitySpan:
        if self.end <= self.start:
            raise ValueError(f"entity {self.label!r} ends at {self.end}, which is not after its start")
        return self


class Entity(Record):
    """A detected entity, with its text."""

    start: int
    end: int
    label: str
    text: str


class LabelledText(Record):
    """A line of a corpus. None means unknown.

    `unannotated` are ranges of characters whose entities are unknown, although those of the other text are
    known. An entry `[start, end, None]` of the given `entities` is such a range.
    """

    text: str
    intent: Label | None = None
    sentiment: Label | None = None
    entities: tuple[EntitySpan, ...] | None = None
    unannotated: tuple[tuple[int, int], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_mood(cls, values: Any) -> Any:
        """Ignore the `mood` of texts in earlier exports."""
        if isinstance(values, Mapping) and "mood" in values:
            return {key: value for key, value in values.items() if key != "mood"}
        return values

    @model_validator(mode="before")
    @classmethod
    def _with_checked_words(cls, values: Any) -> Any:
        """Check the words that entities state, and remove them."""
        if not isinstance(values, Mapping) or not has_words(values.get("entities")):
            return values
        text = values.get("text")
        if not isinstance(text, str):
            return values
        return {**values, "entities": in_characters(text, values["entities"])}

    @model_validator(mode="before")
    @classmethod
    def _with_unannotated(cls, values: Any) -> Any:
        """Move the entities without a label to `unannotated`."""
        if not isinstance(values, Mapping) or not isinstance(given := values.get("entities"), (list, tuple)):
            return values
        ranges = [one for one in given if _has_no_label(one)]
        if not ranges:
            return values
        unannotated = [*values.get("unannotated", ()), *((one[0], one[1]) for one in ranges)]
        entities = [one for one in given if not _has_no_label(one)]
        return {**values, "entities": entities, "unannotated": unannotated}

    @property
    def entity_rows(self) -> list[list[Any]] | None:
        """The entities as `[start, end, label]`, and the unannotated ranges with the label None."""
        if self.entities is None:
            return None
        spans = [[span.start, span.end, span.label] for span in self.entities]
        return [*spans, *([start, end, None] for start, end in self.unannotated)]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks with a known label."""
        known = (self.intent, self.sentiment, self.entities)
        return tuple(task for task, label in zip(TASKS, known, strict=True) if label is not None)


def _has_no_label(entity: Any) -> bool:
    """Whether an entity is a range without a label."""
    return isinstance(entity, (list, tuple)) and len(entity) == 3 and entity[2] is None


LabelledT = TypeVar("LabelledT", bound=LabelledText)


def with_clean_labels(labelled: LabelledT) -> LabelledT:
    """The text with labels in composed form, without outer white space. Stored labels stay as they are.

    Raises ValueError for a blank label.
    """
    changes: dict[str, Any] = {}
    for task in CATEGORY_TASKS:
        if (label := getattr(labelled, task)) is not None:
            changes[task] = _cleaned(label, task)
    if labelled.entities:
        changes["entities"] = tuple(
            span.model_copy(update={"label": _cleaned(span.label, "entities")}) for span in labelled.entities
        )
    same = all(getattr(labelled, name) == value for name, value in changes.items())
    return labelled if same else labelled.model_copy(update=changes)


def _cleaned(label: str, task: Task) -> str:
    clean = clean_label(label)
    if not clean:
        raise ValueError(f"a label of {task} is blank")
    return clean


class Example(LabelledText):
    """A curated training or test example.

    `key` identifies the normalised text, `group` its near-duplicates, `stratum` the label that balances data
    sets. `quality` is in 0..1. `users` is the number of users who agree. `draw` is a
    fixed random number in 0..1 for sampling. `reason` explains the states `conflict` and `quarantined`.
    """

    example_id: str
    source: Source
    quality: Score
    key: str
    group: str
    stratum: str
    state: ExampleState = "pending"
    users: int = 1
    user_id: str | None = None
    turn_id: str | None = None
    draw: float = 0.0
    rejections: int = 0
    reason: str | None = None
    learned_in: str | None = None
    created_at: datetime = Field(default_factory=utc_now)
    seq: int | None = None

    @property
    def is_gold(self) -> bool:
        return self.source in GOLD_SOURCES

    @property
    def is_waiting(self) -> bool:
        """Whether it waits because of a rollback, until a person releases or discards it."""
        return self.state == "quarantined" and self.reason == ROLLED_BACK

    def without_content(self) -> Example:
        """The example after withdrawn consent: quarantined, without text, its digests, entities, and user."""
        withdrawn = f"withdrawn/{self.example_id}"
        return self.model_copy(
            update={
                "text": "",
                "user_id": None,
                "entities": None,
                "unannotated": (),
                "key": withdrawn,
                "group": withdrawn,
                "state": "quarantined",
                "reason": NO_CONSENT,
            }
        )


class Contribution(LabelledText):
    """The labels that one person or file gives to one text.

    `key` identifies the normalised text. `turn_id` is None for gold without a turn. `occurred_at` is the time
    of the turn, or the time at which gold was added. `reason` explains why the labels cannot be learned. The
    store assigns `seq`, which has the order of curation. A contribution never changes: a new one of the same
    turn replaces it.
    """

    key: str
    source: Source
    quality: Score
    user_id: str | None = None
    turn_id: str | None = None
    occurred_at: datetime = Field(default_factory=utc_now)
    reason: str | None = None
    seq: int | None = None

    @property
    def is_gold(self) -> bool:
        return self.source in GOLD_SOURCES

    @property
    def person(self) -> str | None:
        """The user, or the turn of an unknown user as its own person; None for gold without a turn."""
        return person_of(self.user_id, self.turn_id)


UNKNOWN_USER = "turn:"
"""Prefix of the person of a turn without a user."""


def person_of(user_id: str | None, turn_id: str | None) -> str | None:
    """Name of the person who contributed: the user, else `turn:` and the turn, else None."""
    return f"{UNKNOWN_USER}{turn_id}" if user_id is None and turn_id is not None else user_id
