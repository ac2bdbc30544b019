"""Labelled texts, entity spans and curated examples."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from karen_learner.records.base import (
    GOLD_SOURCES,
    TASKS,
    ExampleState,
    Label,
    Record,
    Score,
    Source,
    Split,
    Task,
    utc_now,
)

NO_CONSENT = "consent"
"""`Example.reason` after the user of its turn refused or withdrew consent."""


class EntitySpan(Record):
    """A labelled span of a text."""

    start: int = Field(ge=0)
    end: int = Field(gt=0)
    label: str = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _ordered(self) -> EntitySpan:
        if self.end <= self.start:
            raise ValueError(f"entity {self.label!r} ends at {self.end}, before or where it starts")
        return self


class Entity(Record):
    """A detected entity, with its text."""

    start: int
    end: int
    label: str
    text: str


def _span_from_triple(value: Any) -> Any:
    """Accept the corpus form `[start, end, label]` as well as `{start, end, label}`."""
    if isinstance(value, (list, tuple)) and len(value) == 3:
        return {"start": value[0], "end": value[1], "label": value[2]}
    return value


Span = Annotated[EntitySpan, BeforeValidator(_span_from_triple)]


class LabelledText(Record):
    """A line of a corpus. None means unknown."""

    text: str
    intent: Label | None = None
    sentiment: Label | None = None
    entities: tuple[Span, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_mood(cls, values: Any) -> Any:
        """Ignore the `mood` of texts in earlier exports."""
        if isinstance(values, Mapping) and "mood" in values:
            return {key: value for key, value in values.items() if key != "mood"}
        return values

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks with a known label."""
        known = (self.intent, self.sentiment, self.entities)
        return tuple(task for task, label in zip(TASKS, known, strict=True) if label is not None)


class Example(LabelledText):
    """A curated training or test example.

    `key` identifies the normalised text, `group` its near-duplicates (which share a split), `stratum` the
    label that balances data sets. `quality` is in 0..1. `users` is the number of users who agree. `draw` is a
    fixed random number in 0..1 for sampling. `reason` explains the states `conflict` and `quarantined`.
    """

    example_id: str
    source: Source
    quality: Score
    key: str
    group: str
    stratum: str
    split: Split
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

    def without_content(self) -> Example:
        """The example after withdrawn consent: quarantined, without text, entities and digests of text."""
        withdrawn = f"withdrawn/{self.example_id}"
        return self.model_copy(
            update={
                "text": "",
                "entities": None,
                "key": withdrawn,
                "group": withdrawn,
                "state": "quarantined",
                "reason": NO_CONSENT,
            }
        )
