"""What all records share: the names of tasks, sources, splits, states and stages, and the frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["intent", "sentiment", "entities"]
TASKS: tuple[Task, ...] = ("intent", "sentiment", "entities")
CATEGORY_TASKS: tuple[Task, ...] = ("intent", "sentiment")
"""Those whose answer is one label for the whole text."""

Source = Literal["seed", "reviewed", "correction", "rating"]
"""Where a label comes from: `seed` and `reviewed` are gold, the other two are a user's word."""
GOLD_SOURCES: frozenset[Source] = frozenset({"seed", "reviewed"})

Split = Literal["train", "dev", "holdout"]
ExampleState = Literal["pending", "learned", "conflict", "quarantined"]
CycleMode = Literal["incremental", "full"]
CycleStatus = Literal["deployed", "rejected", "rolled_back", "skipped", "failed"]
Stage = Literal["curating", "training", "validating", "deploying", "finished", "interrupted"]

Score = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Features = Mapping[str, int | float | bool | str]
Label = Annotated[str, Field(min_length=1, max_length=200)]


def utc_now() -> datetime:
    """The present moment, timezone-aware."""
    return datetime.now(timezone.utc)


class Record(BaseModel):
    """A frozen value without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: what `--json` and the HTTP service show."""
        return self.model_dump(mode="json")
