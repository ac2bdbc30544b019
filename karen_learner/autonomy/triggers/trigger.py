"""The base of triggers, and the situation that they check."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from karen_learner.records import CycleRow, LearningCycleResult, Outcome, TenantCounts
from karen_learner.records.readings import Reading
from karen_learner.records.triggers import CycleRequest

UNPRODUCTIVE = frozenset({"skipped", "failed", "rejected"})


class Check(NamedTuple):
    """The result of a trigger: whether it holds, the compared values in words, and its reading."""

    holds: bool
    why: str
    reading: Reading | None = None


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The state of a tenant at one time, for all triggers. `cycles` are the newest ones, newest first.

    `new_samples` are pending examples and turns with feedback that the last decision did not see.
    `trained_s` are the seconds of training of all tenants in the last 24 hours.
    """

    tenant_id: str
    now: datetime
    readings: Mapping[str, Reading] = field(default_factory=dict)
    counts: TenantCounts = field(default_factory=TenantCounts)
    cycles: Sequence[CycleRow] = ()
    outcomes: Sequence[Outcome] = ()
    new_samples: int = 0
    trained_s: float = 0.0
    is_running: bool = False
    request: CycleRequest | None = None

    @property
    def results(self) -> list[LearningCycleResult]:
        """The results of the newest learning cycles, newest first, without rollbacks."""
        found = [row.result for row in self.cycles if row.result is not None]
        return [one for one in found if one.status != "rolled_back"]

    @property
    def last_start(self) -> datetime | None:
        """The start of the newest cycle."""
        return self.cycles[0].started_at if self.cycles else None

    @property
    def last_training(self) -> datetime | None:
        """The start of the newest cycle that the gates decided."""
        return next((one.started_at for one in self.results if one.verdict is not None), None)

    @property
    def unproductive(self) -> int:
        """The number of newest cycles in a row that deployed nothing."""
        results = self.results
        return next((at for at, one in enumerate(results) if one.status not in UNPRODUCTIVE), len(results))

    @property
    def rejections(self) -> int:
        """The number of newest decisions in a row that rejected their candidate."""
        decided = [one.status for one in self.results if one.verdict is not None]
        return next((at for at, status in enumerate(decided) if status != "rejected"), len(decided))

    def since(self, moment: datetime | None) -> timedelta | None:
        """The time since a moment; at least zero, because clocks may jump. None without a moment."""
        return None if moment is None else max(timedelta(0), self.now - moment)


class Trigger(BaseModel, ABC):
    """A condition with parameters. A subclass declares the parameters as fields, and implements `check`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @abstractmethod
    def check(self, situation: Situation) -> Check:
        """Whether the condition holds. Pure and fast."""


def hours(span: timedelta | None) -> str:
    """A span in words."""
    if span is None:
        return "never"
    seconds = span.total_seconds()
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
