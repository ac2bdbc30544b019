"""Strategies of a host: discounted tallies of their attempts, and the advice that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from karen_learner.records.base import Record, Score
from karen_learner.records.outcomes import Name

ALL_DOMAINS = ""
"""The domain of rows that hold for every domain. No domain of a host is empty."""

TallyKind = Literal["attempts", "latency", "follow_up"]
"""Attempts of a strategy, its latencies and arrivals, and the attempts that follow an error type."""
SwitchName = Literal["frozen", "barred"]
ErrorAction = Literal["retry", "back_off", "switch", "give_up"]
"""The reaction to an error: repeat at once, repeat after a wait, use another strategy, or stop."""


class StrategyTally(Record):
    """Discounted counts of one name in one domain, as they were `at` this time.

    The name is a strategy, or an error type (`follow_up`).
    """

    kind: TallyKind
    domain: str
    name: Name
    counts: Mapping[str, float]
    at: datetime

    @property
    def key(self) -> tuple[TallyKind, str, str]:
        return self.kind, self.domain, self.name


class StrategySwitch(Record):
    """A decision about strategies that does not decay: `frozen` on one strategy, or `barred` until a time.

    `domain` is `ALL_DOMAINS` or one domain. `until` None: without end.
    """

    name: SwitchName
    domain: str
    strategy: Name
    until: datetime | None = None


class StrategyState(Record):
    """All rows of a tenant."""

    tallies: tuple[StrategyTally, ...] = ()
    switches: tuple[StrategySwitch, ...] = ()


class StrategyEstimate(Record):
    """A strategy in a domain. `successes` and `failures` are discounted; the domain's own attempts alone.

    `expected` is the mean of the posterior distribution, `low` and `high` its 5 % and 95 % quantiles.
    """

    strategy: Name
    successes: float
    failures: float
    expected: Score
    low: Score
    high: Score
    is_best: bool
    is_default: bool
    barred: bool = False


class Limits(Record):
    """Limits of one strategy in a domain. None: too few measurements.

    `timeout_s` in seconds; `retries` after the first attempt; `concurrency` of this strategy; `pool_size` of
    all strategies of the domain. `measured` is the discounted number of measured latencies.
    """

    timeout_s: float | None = None
    retries: Annotated[int, Field(ge=0)] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None
    pool_size: Annotated[int, Field(ge=1)] | None = None
    measured: float = 0.0


class ErrorRule(Record):
    """The reaction to errors of one type, with its evidence as text.

    `domain` None: the rule of all domains. `observed` is the discounted number of errors. `learned` is False
    as long as the default action stands.
    """

    error_type: Name
    domain: str | None
    action: ErrorAction
    learned: bool
    observed: float
    evidence: str

    @property
    def text(self) -> str:
        """The rule and its evidence in one line."""
        where = "in any domain" if self.domain is None else f"in {self.domain}"
        return f"{self.error_type} {where}: {self.action.replace('_', ' ')} ({self.evidence})"


class StrategyRecommendation(Record):
    """The strategy for the next attempt in a domain.

    `propensity` is the probability with which it was chosen. Pass `choice_id` to `record_attempt`, so that a
    late result counts for this choice.
    """

    domain: str
    strategy: Name
    propensity: Annotated[float, Field(gt=0.0, le=1.0)]
    choice_id: str
    is_exploration: bool
    frozen: bool
    limits: Limits
    rules: tuple[ErrorRule, ...] = ()


def discounted(counts: Mapping[str, float], seconds: float, half_life_s: float) -> dict[str, float]:
    """The counts after so many seconds. A clock that went back discounts nothing."""
    factor = 0.5 ** (max(0.0, seconds) / half_life_s)
    return {name: value * factor for name, value in counts.items()}


def merged(first: StrategyTally, second: StrategyTally, half_life_s: float) -> StrategyTally:
    """The sum of two tallies of one key, at the later of their times."""
    older, newer = sorted((first, second), key=lambda one: one.at)
    counts = discounted(older.counts, (newer.at - older.at).total_seconds(), half_life_s)
    for name, value in newer.counts.items():
        counts[name] = counts.get(name, 0.0) + value
    return newer.model_copy(update={"counts": counts})
