"""Reads the values of a metric by user from the store, and estimates the effect of a change on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from karen_learner import memory
from karen_learner.errors import InvalidInput, KarenLearnerError
from karen_learner.improvement.tracking.effects import (
    MIN_CONTROLS,
    Estimate,
    UserTotals,
    holdback_effect,
    series_effect,
)
from karen_learner.monitoring.scores import outcome_of
from karen_learner.records import Holdback, Turn

logger = logging.getLogger(__name__)

MAX_CONTROLS = 30
MAX_TRIED = 200
"""Tenants that are tried as controls of one interrupted series, until there are `MAX_CONTROLS`."""
RECENT_VERSIONS = 20

BEFORE, AFTER = 0, 1
COUNT, SUM = 0, 1


@dataclass(frozen=True)
class Metric:
    """A mean over turns in 0 to 1. `worth` is the number of right answers that a rise by one answer is."""

    value: Callable[[Turn], float | None]
    worth: Literal[-1, 0, 1]
    only_feedback: bool = True

    @property
    def better(self) -> int:
        """1 if higher is better, else -1."""
        return 1 if self.worth > 0 or self.value is _rating else -1


def _accuracy(turn: Turn) -> float | None:
    found = outcome_of(turn)
    return None if found is None else found.score


def _rating(turn: Turn) -> float | None:
    found = outcome_of(turn)
    return None if found is None else found.rating


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(_accuracy, worth=1),
    "rating": Metric(_rating, worth=0),
    "correction_rate": Metric(lambda turn: float(turn.metadata.correction_needed), worth=-1),
    "fallback_rate": Metric(lambda turn: float(turn.metadata.degraded), worth=-1, only_feedback=False),
}
"""Accuracy of turns with a known answer, mean rating, correction rate of turns with feedback, fallback rate
of turns."""


def metric_of(name: str) -> Metric:
    """The metric with this name. Raises InvalidInput."""
    if name not in METRICS:
        raise InvalidInput(f"unknown metric {name!r:.80}: known are {', '.join(METRICS)}")
    return METRICS[name]


async def estimate(
    store: memory.SqlMemoryStore,
    tenant_id: str,
    metric: str,
    start: datetime,
    end: datetime,
    holdback: Holdback | None,
) -> Estimate | None:
    """The effect on a metric from `start` to `end`, beside the period of equal length before; None: few data.

    With a holdback against its users, else an interrupted series with other tenants as control.
    """
    totals = await _totals(store, tenant_id, metric_of(metric), start, end, holdback)
    if holdback is not None:
        return holdback_effect(totals)
    alone = series_effect(totals)
    if alone is None:
        return None
    return series_effect(totals, await _controls(store, tenant_id, metric, start, end))


async def _totals(
    store: memory.SqlMemoryStore,
    tenant_id: str,
    metric: Metric,
    start: datetime,
    end: datetime,
    holdback: Holdback | None,
) -> UserTotals:
    """Count and sum of the values by period and user. Turns without a user are left out."""
    first = start - (end - start)
    sums: dict[str, list[float]] = {}
    async for page in store.turns_between(tenant_id, first, end, with_feedback=metric.only_feedback):
        for turn in page:
            user, value = turn.metadata.user_id, metric.value(turn)
            if user and value is not None:
                side = AFTER if turn.metadata.occurred_at >= start else BEFORE
                found = sums.setdefault(user, [0.0] * 4)
                found[2 * side + COUNT] += 1.0
                found[2 * side + SUM] += value
    table = np.array(list(sums.values()), dtype=np.float64).reshape(-1, 2, 2)
    kept = [holdback is not None and holdback.keeps(tenant_id, user) for user in sums]
    return UserTotals(
        total=table[:, AFTER, SUM],
        count=table[:, AFTER, COUNT],
        total_before=table[:, BEFORE, SUM],
        count_before=table[:, BEFORE, COUNT],
        kept=np.array(kept, dtype=np.bool_),
    )


async def _controls(
    store: memory.SqlMemoryStore, tenant_id: str, metric: str, start: datetime, end: datetime
) -> list[Estimate]:
    """The changes of tenants without a deployment in both periods. Only their sums are read."""
    first, found = start - (end - start), list[Estimate]()
    others = [other for other in await store.tenants() if other != tenant_id]
    if len(others) < MIN_CONTROLS:
        return []
    for other in others[:MAX_TRIED]:
        try:
            versions = await store.versions(other, limit=RECENT_VERSIONS)
            if any(first <= one.created_at < end for one in versions):
                continue
            change = series_effect(await _totals(store, other, metric_of(metric), start, end, None))
        except KarenLearnerError as error:  # rows of another tenant
            logger.warning("a control tenant cannot be read: %s", type(error).__name__)
            continue
        if change is not None:
            found.append(change)
        if len(found) == MAX_CONTROLS:
            break
    return found
