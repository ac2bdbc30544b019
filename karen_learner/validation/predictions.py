"""What a model said of a text, in plain values that cross process borders as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Triple = tuple[int, int, str]


@dataclass(frozen=True)
class Prediction:
    """The intent, the sentiment and the entities (start, end, label) found in a text.

    None: the model has no pipe for the task. That scores as nothing found.
    """

    intent: str | None = None
    sentiment: str | None = None
    entities: tuple[Triple, ...] | None = None

    def to_row(self) -> list[Any]:
        """`[intent, sentiment, [[start, end, label], ...] or None]`."""
        spans = None if self.entities is None else [list(span) for span in self.entities]
        return [self.intent, self.sentiment, spans]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Prediction:
        """The prediction of a row that `to_row` made."""
        intent, sentiment, spans = row
        entities = None if spans is None else tuple((int(s), int(e), str(label)) for s, e, label in spans)
        return cls(intent, sentiment, entities)
