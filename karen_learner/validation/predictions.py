"""What a model said of a text, in plain values that cross process borders as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from karen_learner.records import CATEGORY_TASKS, Task

Triple = tuple[int, int, str]


@dataclass(frozen=True)
class Prediction:
    """The intent, the sentiment and the entities (start, end, label) found in a text.

    None: the model has no pipe for the task. That scores as nothing found. `of_gold` is the probability that
    the model gave to the right label of a task, where that is known.
    """

    intent: str | None = None
    sentiment: str | None = None
    entities: tuple[Triple, ...] | None = None
    of_gold: Mapping[Task, float] = field(default_factory=dict)

    def to_row(self) -> list[Any]:
        """`[intent, sentiment, [[start, end, label], ...] or None]`."""
        spans = None if self.entities is None else [list(span) for span in self.entities]
        return [self.intent, self.sentiment, spans]

    @classmethod
    def from_row(
        cls, row: Sequence[Any], of_gold: tuple[float | None, float | None] = (None, None)
    ) -> Prediction:
        """The prediction of a row that `to_row` made; `of_gold` are the probabilities of the right intent and
        the right sentiment."""
        intent, sentiment, spans = row
        entities = None if spans is None else tuple((int(s), int(e), str(label)) for s, e, label in spans)
        known = {
            task: value for task, value in zip(CATEGORY_TASKS, of_gold, strict=True) if value is not None
        }
        return cls(intent, sentiment, entities, known)
