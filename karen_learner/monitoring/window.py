"""Sums of outcomes over a sliding window, in buckets of a minute. The cost does not depend on the history.

A latency falls into a bin of a logarithmic histogram, so a quantile has a relative error below 3 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from karen_learner.records import Measures, SystemMetrics

Bins = npt.NDArray[Any]

OTHER = "(other)"
MAX_KEYS = 500
"""Combinations of agent, strategy and domain in a minute; further ones count together as `(other)`."""
BINS = 600
"""Bins of the histogram of latencies: up to 10^12 milliseconds."""
SUMS = (
    "outcomes",
    "scored",
    "scores",
    "attempts",
    "successes",
    "errors",
    "rated",
    "ratings",
    "cost",
    "tokens",
)
_BASE = math.log(1.05)
_SECONDS = 60


class Key(NamedTuple):
    """The kind of an outcome. `strategy` and `domain` may be unknown."""

    agent: str
    strategy: str | None
    domain: str | None


class Sample(NamedTuple):
    """The values of an outcome that a window sums. `at` are seconds since 1970."""

    at: float
    key: Key
    score: float | None = None
    success: bool | None = None
    rating: float | None = None
    is_error: bool = False
    duration_ms: float | None = None
    cost: float = 0.0
    tokens: int = 0


class Tally:
    """Sums over outcomes. The histogram of latencies has one place for each bin."""

    __slots__ = (*SUMS, "latencies")

    def __init__(self) -> None:
        self.outcomes = self.scored = self.attempts = self.successes = self.errors = 0
        self.rated = self.tokens = 0
        self.scores = self.ratings = self.cost = 0.0
        self.latencies: Bins | None = None

    def add(self, one: Sample) -> None:
        self.outcomes += 1
        self.cost += one.cost
        self.tokens += one.tokens
        if one.is_error:
            self.errors += 1
        if one.score is not None:
            self.scored += 1
            self.scores += one.score
        if one.success is not None:
            self.attempts += 1
            self.successes += one.success
        if one.rating is not None:
            self.rated += 1
            self.ratings += one.rating
        if one.duration_ms is not None:
            if self.latencies is None:
                self.latencies = np.zeros(BINS, dtype=np.int64)
            self.latencies[min(latency_bin(one.duration_ms), BINS - 1)] += 1

    def merge(self, other: Tally | ClosedTally, sign: int = 1) -> None:
        """Add the sums of another tally, or subtract them with the sign -1."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))
        if other.latencies is None:
            return
        if self.latencies is None:
            self.latencies = np.zeros(BINS, dtype=np.int64)
        if isinstance(other, Tally):
            self.latencies += sign * other.latencies
        else:
            places, numbers = other.latencies
            self.latencies[places] += sign * numbers

    def measures(self) -> Measures:
        """The means, quantiles and totals."""
        return Measures(
            outcomes=self.outcomes,
            avg_accuracy=_share(self.scores, self.scored),
            success_rate=_share(self.successes, self.attempts),
            error_rate=_share(self.errors, self.attempts),
            avg_rating=_share(self.ratings, self.rated),
            latency_p50_ms=_quantile(self.latencies, 0.5),
            latency_p95_ms=_quantile(self.latencies, 0.95),
            cost=max(0.0, self.cost),
            tokens=self.tokens,
            scored=self.scored,
            attempts=self.attempts,
        )


class ClosedTally:
    """A tally that does not change: its histogram has the places and numbers of the bins in use only."""

    __slots__ = (*SUMS, "latencies")

    def __init__(self, tally: Tally) -> None:
        for name in SUMS:
            setattr(self, name, getattr(tally, name))
        self.latencies: tuple[Bins, Bins] | None = None
        if tally.latencies is not None:
            places = np.flatnonzero(tally.latencies)
            self.latencies = places.astype(np.uint16), tally.latencies[places].astype(np.int32)


class Totals:
    """The tallies of a window: of all outcomes, and by agent, strategy and domain."""

    def __init__(self) -> None:
        self.all = Tally()
        self.parts: tuple[dict[str, Tally], ...] = ({}, {}, {})

    def merge(self, key: Key, tally: Tally | ClosedTally, sign: int = 1) -> None:
        self.all.merge(tally, sign)
        for name, part in zip(key, self.parts, strict=True):
            if name is None:
                continue
            total = part.get(name)
            if total is None:
                total = part[name] = Tally()
            total.merge(tally, sign)
            if not total.outcomes:  # also ends the rounding errors of its sums
                del part[name]
        if not self.all.outcomes:
            self.all = Tally()

    def copy(self) -> Totals:
        made = Totals()
        made.all.merge(self.all)
        for mine, part in zip(self.parts, made.parts, strict=True):
            for name, tally in mine.items():
                part[name] = Tally()
                part[name].merge(tally)
        return made


class Window:
    """The outcomes of the last `minutes`. Not thread-safe.

    Outcomes are summed by minute. A minute is closed soon after its end: its sums join the totals, and leave
    them when the minute leaves the window. So the cost of reading depends on the number of agents, strategies
    and domains alone.
    """

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        self._open: dict[int, dict[Key, Tally]] = {}
        self._closed: dict[int, list[tuple[Key, ClosedTally]]] = {}
        self._totals = Totals()

    def add(self, one: Sample) -> None:
        """Add an outcome. One that is older than the window is ignored when the window is read."""
        minute = int(one.at // _SECONDS)
        bucket = self._open.get(minute)
        if bucket is None:
            bucket = self._open[minute] = {}
        tally = bucket.get(one.key)
        if tally is None:
            key = one.key if len(bucket) < MAX_KEYS else Key(OTHER, OTHER, OTHER)
            tally = bucket.setdefault(key, Tally())
        tally.add(one)

    def metrics(self, now: float) -> SystemMetrics:
        """The measures of the window that ends `now` (seconds since 1970)."""
        last = int(now // _SECONDS)
        self._forget(last)
        self._close(last)
        found = self._totals.copy()
        for bucket in self._open.values():
            for key, tally in bucket.items():
                found.merge(key, tally)
        by_agent, by_strategy, by_domain = (
            {name: tally.measures() for name, tally in sorted(part.items())} for part in found.parts
        )
        return SystemMetrics(
            **found.all.measures().model_dump(),
            window_minutes=self.minutes,
            by_agent=by_agent,
            by_strategy=by_strategy,
            by_domain=by_domain,
        )

    def _forget(self, last: int) -> None:
        """Remove minutes that have left the window, and those of the future after a clock jump."""
        for minute in [one for one in self._open if not last - self.minutes < one <= last + 1]:
            del self._open[minute]
        for minute in [one for one in self._closed if not last - self.minutes < one <= last + 1]:
            for key, tally in self._closed.pop(minute):
                self._totals.merge(key, tally, -1)

    def _close(self, last: int) -> None:
        """Move the sums of ended minutes to the totals. Late outcomes open their minute again."""
        for minute in [one for one in self._open if one < last]:
            closed = self._closed.setdefault(minute, [])
            for key, tally in self._open.pop(minute).items():
                one = ClosedTally(tally)
                closed.append((key, one))
                self._totals.merge(key, one)


def latency_bin(milliseconds: float) -> int:
    """The bin of a latency in a logarithmic histogram with a relative error below 3 %."""
    return 0 if milliseconds < 1.0 else 1 + int(math.log(milliseconds) / _BASE)


def latency_quantile(bins: Mapping[int, float], share: float) -> float | None:
    """The middle of the bin with the quantile, in milliseconds; None if the histogram ends before it."""
    left = share * sum(bins.values())
    for number in sorted(bins):
        left -= bins[number]
        if left <= 0:
            return _middle(number)
    return None


def _quantile(bins: Bins | None, share: float) -> float | None:
    """The quantile of a histogram with a place for each bin."""
    if bins is None or not (total := int(bins.sum())):
        return None
    return _middle(int(np.searchsorted(bins.cumsum(), share * total)))


def _middle(number: int) -> float:
    return 0.5 if number == 0 else math.exp((number - 0.5) * _BASE)


def _share(part: float, whole: int) -> float | None:
    return min(1.0, max(0.0, part / whole)) if whole else None
