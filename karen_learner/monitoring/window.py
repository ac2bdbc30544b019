"""Sums of outcomes over a sliding window, in buckets of a minute. The cost does not depend on the history.

A latency falls into a bin of a logarithmic histogram, so a quantile has a relative error below 3 %.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from karen_learner.records import Measures, SystemMetrics

OTHER = "(other)"
MAX_KEYS = 500
"""Combinations of agent, strategy and domain in a minute; further ones count together as `(other)`."""
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


@dataclass(eq=False)
class Tally:
    """Sums over outcomes."""

    outcomes: int = 0
    scored: int = 0
    scores: float = 0.0
    attempts: int = 0
    successes: int = 0
    errors: int = 0
    rated: int = 0
    ratings: float = 0.0
    cost: float = 0.0
    tokens: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    def add(self, one: Sample) -> None:
        self.outcomes += 1
        self.cost += one.cost
        self.tokens += one.tokens
        self.errors += one.is_error
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
            self.latencies[latency_bin(one.duration_ms)] += 1

    def merge(self, other: Tally) -> None:
        for name in ("outcomes", "scored", "scores", "attempts", "successes", "errors", "rated", "ratings"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.cost += other.cost
        self.tokens += other.tokens
        self.latencies.update(other.latencies)

    def measures(self) -> Measures:
        """The means, quantiles and totals."""
        return Measures(
            outcomes=self.outcomes,
            avg_accuracy=_share(self.scores, self.scored),
            success_rate=_share(self.successes, self.attempts),
            error_rate=_share(self.errors, self.attempts),
            avg_rating=_share(self.ratings, self.rated),
            latency_p50_ms=latency_quantile(self.latencies, 0.5),
            latency_p95_ms=latency_quantile(self.latencies, 0.95),
            cost=self.cost,
            tokens=self.tokens,
            scored=self.scored,
            attempts=self.attempts,
        )


class Window:
    """The outcomes of the last `minutes`. Not thread-safe."""

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        self._buckets: dict[int, dict[Key, Tally]] = {}

    def add(self, one: Sample) -> None:
        """Add an outcome. One that is older than the window is ignored when the window is read."""
        bucket = self._buckets.setdefault(int(one.at // _SECONDS), {})
        tally = bucket.get(one.key)
        if tally is None:
            key = one.key if len(bucket) < MAX_KEYS else Key(OTHER, OTHER, OTHER)
            tally = bucket.setdefault(key, Tally())
        tally.add(one)

    def metrics(self, now: float) -> SystemMetrics:
        """The measures of the window that ends `now` (seconds since 1970)."""
        self._forget(now)
        total, parts = Tally(), (dict[str, Tally](), dict[str, Tally](), dict[str, Tally]())
        for key, tally in self._tallies():
            total.merge(tally)
            for name, part in zip(key, parts, strict=True):
                if name is not None:
                    part.setdefault(name, Tally()).merge(tally)
        by_agent, by_strategy, by_domain = (
            {name: tally.measures() for name, tally in sorted(part.items())} for part in parts
        )
        return SystemMetrics(
            **total.measures().model_dump(),
            window_minutes=self.minutes,
            by_agent=by_agent,
            by_strategy=by_strategy,
            by_domain=by_domain,
        )

    def _forget(self, now: float) -> None:
        """Remove buckets that have left the window, and those of the future after a clock jump."""
        last = int(now // _SECONDS)
        for minute in [one for one in self._buckets if not last - self.minutes < one <= last + 1]:
            del self._buckets[minute]

    def _tallies(self) -> Iterator[tuple[Key, Tally]]:
        for bucket in self._buckets.values():
            yield from bucket.items()


def window_of(minutes: int, samples: Iterable[Sample]) -> Window:
    """A window with these outcomes."""
    window = Window(minutes)
    for one in samples:
        window.add(one)
    return window


def latency_bin(milliseconds: float) -> int:
    """The bin of a latency in a logarithmic histogram with a relative error below 3 %."""
    return 0 if milliseconds < 1.0 else 1 + int(math.log(milliseconds) / _BASE)


def latency_quantile(bins: Mapping[int, float], share: float) -> float | None:
    """The middle of the bin with the quantile, in milliseconds; None if the histogram ends before it."""
    left = share * sum(bins.values())
    for number in sorted(bins):
        left -= bins[number]
        if left <= 0:
            return 0.5 if number == 0 else math.exp((number - 0.5) * _BASE)
    return None


def _share(part: float, whole: int) -> float | None:
    return min(1.0, max(0.0, part / whole)) if whole else None
