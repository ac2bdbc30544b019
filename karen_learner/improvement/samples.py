"""Observations of metrics, summed by period and cluster, and their source: memory does not grow with them."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from karen_learner import memory
from karen_learner.errors import InvalidInput
from karen_learner.records.improvement import AnalysisPeriod

BEFORE, AFTER = 0, 1
"""The periods: the analysed one is AFTER."""
COUNT, SUM = 0, 1
CLUSTERS = 256
"""People are assigned to clusters by a hash. Several people of one cluster count as one."""
MAX_GROUPS = 100
MAX_SUM = 1e100
"""Sums below it have finite squares."""
MAX_IDS = 20
"""Ids that evidence lists."""
SHARE_POINTS = 0.05
AMOUNT_SHARE = 0.10

IdKind = Literal["turn_ids", "cycle_ids", "entry_ids", "task_ids"]
"""The field of `Support` that has the ids."""
Better = Literal["higher", "lower", "neutral"]


@dataclass(frozen=True)
class Metric:
    """A metric of a component. `neutral`: no direction is better, and it has no trend.

    A share is in 0 to 1. Of a share, a change of 5 points matters; of an amount, one of 10 %.
    """

    name: str
    better: Better = "higher"
    is_share: bool = True

    def relevant_change(self, before: float) -> float:
        """The smallest change that matters."""
        return SHARE_POINTS if self.is_share else AMOUNT_SHARE * abs(before)

    def is_bad(self, value: float) -> bool:
        """Whether an observation of a share is its worst value, so that its id is evidence."""
        return self.is_share and value == (0.0 if self.better == "higher" else 1.0)


@dataclass(frozen=True)
class Span:
    """The analysed period from `split` to `end`, and the one of equal length before it, from `start`."""

    start: datetime
    split: datetime
    end: datetime

    @classmethod
    def of(cls, end: datetime, days: float) -> Span:
        """The last `days` days before `end`. Raises InvalidInput unless they are in 0 to 3,650."""
        if isinstance(days, bool) or not isinstance(days, (int, float)) or not 0 < days <= 3_650:
            raise InvalidInput(f"days_back must be a number above 0, at most 3,650, not {days!r:.40}")
        length = timedelta(days=days)
        return cls(end - 2 * length, end - length, end)

    def side(self, at: datetime) -> int | None:
        """The period of a time; None outside of both."""
        if not self.start <= at < self.end:
            return None
        return AFTER if at >= self.split else BEFORE

    @property
    def period(self) -> AnalysisPeriod:
        return AnalysisPeriod(start=self.split, end=self.end)


def cluster_of(person: str) -> int:
    """The cluster of a person, session or cycle."""
    return zlib.crc32(person.encode("utf-8", "surrogatepass")) % CLUSTERS


@dataclass(eq=False)
class GroupMeans:
    """Means by a name, such as that of a strategy. Beyond `MAX_GROUPS` names, further ones are left out."""

    _sums: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, name: str, value: float | bool | None) -> None:
        """Add an observation; None is none."""
        if value is not None and (name in self._sums or len(self._sums) < MAX_GROUPS):
            count, total = self._sums.get(name, (0, 0.0))
            self._sums[name] = count + 1, total + value

    def means(self) -> dict[str, float]:
        """The mean of each name."""
        return {name: total / count for name, (count, total) in sorted(self._sums.items())}


@dataclass(eq=False)
class Samples:
    """The observations of one component in both periods.

    `ids` has the newest ids of bad observations of the analysed period, by metric. `groups` has means of the
    analysed period by a name, such as that of a strategy.
    """

    metrics: tuple[Metric, ...]
    max_ids: int = MAX_IDS
    kind_of_ids: IdKind = "turn_ids"
    observations: int = 0
    ids: dict[str, deque[str]] = field(default_factory=dict)
    groups: dict[str, Mapping[str, float]] = field(default_factory=dict)
    _sums: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = {metric.name: metric for metric in self.metrics}

    def add(
        self, side: int, cluster: int, values: Iterable[tuple[str, float | bool | None]], name: str
    ) -> None:
        """Add the observations of one turn, cycle or outcome with the id `name`; None is no observation."""
        self.observations += side == AFTER
        for metric, value in values:
            if value is None:
                continue
            self.add_sum(metric, side, cluster, 1, float(value))
            if side == AFTER and self._known[metric].is_bad(float(value)):
                self.ids.setdefault(metric, deque(maxlen=self.max_ids)).append(name)

    def add_sum(self, metric: str, side: int, cluster: int, count: int, total: float) -> None:
        """Add `count` observations with the sum `total`."""
        sums = self._sums.get(metric)
        if sums is None:  # a list: adding to one number of an array takes ten times as long
            sums = self._sums[metric] = [0.0] * (4 * CLUSTERS)
        sums[2 * side * CLUSTERS + cluster] += count
        sums[(2 * side + 1) * CLUSTERS + cluster] += total

    def sums(self, metric: str) -> NDArray[np.float64]:
        """Counts and sums of a metric: an array of (period, count or sum, cluster).

        Without an observation, or with sums beyond `MAX_SUM`, all are 0.
        """
        found = np.array(self._sums.get(metric, [0.0] * (4 * CLUSTERS))).reshape(2, 2, CLUSTERS)
        return found if np.abs(found).max() < MAX_SUM else np.zeros((2, 2, CLUSTERS))

    def has(self, metric: str) -> bool:
        """Whether there is an observation in one of the periods."""
        return metric in self._sums

    def total(self, metric: str, side: int) -> float:
        """The sum of a metric in a period."""
        return float(self.sums(metric)[side, SUM].sum())

    def mean(self, metric: str, side: int = AFTER) -> float | None:
        """The mean of a metric in a period; None without an observation."""
        count, total = self.sums(metric)[side].sum(axis=1)
        return float(total / count) if count else None

    def count(self, metric: str) -> int:
        """The observations of a metric in the analysed period."""
        return int(self.sums(metric)[AFTER, COUNT].sum())


@dataclass(frozen=True)
class Source:
    """The data of one analysis. `max_ids` bounds the ids of evidence of each metric."""

    store: memory.SqlMemoryStore
    tenant_id: str
    span: Span
    max_ids: int = MAX_IDS
