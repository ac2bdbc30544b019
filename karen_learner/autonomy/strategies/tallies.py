"""Discounted tallies in memory. Those that are not stored yet are kept apart, so that processes add up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from karen_learner.records.strategies import StrategyState, StrategyTally, TallyKind, discounted, merged

Key = tuple[TallyKind, str, str]
MAX_NAMES = 2_000
"""Rows of one kind; further domains count together as `(other)`."""
OTHER = "(other)"


class DiscountedTallies:
    """Counts that halve every `half_life_s`, by kind, domain and name. Not thread-safe."""

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self._rows: dict[Key, StrategyTally] = {}
        self._new: dict[Key, StrategyTally] = {}

    def add(self, kind: TallyKind, domain: str, name: str, counts: Mapping[str, float], at: datetime) -> None:
        """Add counts as of a time, which may be in the past."""
        if (kind, domain, name) not in self._rows and len(self._rows) >= MAX_NAMES:
            domain, name = OTHER, OTHER
        one = StrategyTally(kind=kind, domain=domain, name=name, counts=counts, at=at)
        self._merge(self._rows, one)
        self._merge(self._new, one)

    def counts(self, kind: TallyKind, domain: str, name: str, now: datetime) -> dict[str, float]:
        """The discounted counts of one row; empty without it."""
        row = self._rows.get((kind, domain, name))
        return {} if row is None else self._discounted(row, now)

    def rows(self, kind: TallyKind, now: datetime) -> Iterator[tuple[str, str, dict[str, float]]]:
        """Domain, name and discounted counts of each row of a kind."""
        for row in self._rows.values():
            if row.kind == kind:
                yield row.domain, row.name, self._discounted(row, now)

    def reset(self, kind: TallyKind) -> None:
        """Forget all rows of a kind."""
        for rows in (self._rows, self._new):
            for key in [key for key in rows if key[0] == kind]:
                del rows[key]

    def load(self, state: StrategyState) -> None:
        """Replace the rows by stored ones, and add those that are not stored yet."""
        self._rows = {one.key: one for one in state.tallies}
        for one in self._new.values():
            self._merge(self._rows, one)

    def take_unstored(self) -> tuple[StrategyTally, ...]:
        """The counts since the last call. If they cannot be stored, `give_back` them."""
        taken, self._new = tuple(self._new.values()), {}
        return taken

    def give_back(self, taken: Iterable[StrategyTally]) -> None:
        """Add counts to those that are not stored yet."""
        for one in taken:
            self._merge(self._new, one)

    def _merge(self, rows: dict[Key, StrategyTally], one: StrategyTally) -> None:
        former = rows.get(one.key)
        rows[one.key] = one if former is None else merged(former, one, self.half_life_s)

    def _discounted(self, row: StrategyTally, now: datetime) -> dict[str, float]:
        return discounted(row.counts, (now - row.at).total_seconds(), self.half_life_s)
