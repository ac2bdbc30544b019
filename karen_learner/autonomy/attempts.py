"""The newest attempts of a learning system, and the measures that follow from them."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from karen_learner.records import Record, Score

KEPT = 1_000
"""The newest attempts that are measured."""
CURRENT = 100
"""The newest attempts of the current success rate."""
MIN_ATTEMPTS = 20
"""Attempts without which there is no trend, and no reaction to a success rate."""
Z_95 = 1.96

Trend = Literal["improving", "stable", "declining", "unknown"]


class Attempt(NamedTuple):
    """The result of one attempt."""

    at: datetime
    success: bool
    strategy: str
    domain: str
    error_type: str | None


class AttemptShare(Record):
    """Attempts of one strategy or domain, and the share that succeeded."""

    attempts: int
    successes: int
    success_rate: Score


class RecentAttempts:
    """The newest attempts of a tenant. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: deque[Attempt] = deque(maxlen=KEPT)
        self._failures: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, one: Attempt) -> int:
        """Add an attempt; the number of failures in a row in its domain."""
        self._kept.append(one)
        self._failures[one.domain] = 0 if one.success else self._failures[one.domain] + 1
        if len(self._failures) > KEPT:
            self._failures = Counter({one.domain: self._failures[one.domain]})
        return self._failures[one.domain]

    @property
    def consecutive_failures(self) -> int:
        """The most failures in a row of a domain."""
        return max(self._failures.values(), default=0)

    def success_rate(self, domain: str | None = None) -> Score | None:
        """The success rate of the newest attempts; None with too few."""
        found = [one.success for one in self._kept if domain in (None, one.domain)][-CURRENT:]
        return sum(found) / len(found) if len(found) >= MIN_ATTEMPTS else None

    def current_success_rate(self) -> Score | None:
        """The success rate of the newest attempts, also of few; None without any."""
        newest = list(self._kept)[-CURRENT:]
        return sum(one.success for one in newest) / len(newest) if newest else None

    def domains(self) -> tuple[str, ...]:
        return tuple(sorted({one.domain for one in self._kept}))

    def by(self, part: Callable[[Attempt], str]) -> Mapping[str, AttemptShare]:
        """Attempts by strategy or domain."""
        attempts = Counter(part(one) for one in self._kept)
        successes = Counter(part(one) for one in self._kept if one.success)
        return {
            name: AttemptShare(
                attempts=number, successes=successes[name], success_rate=successes[name] / number
            )
            for name, number in sorted(attempts.items())
        }

    def errors(self) -> Counter[tuple[str, str]]:
        """Failures by error type and domain."""
        return Counter((one.error_type, one.domain) for one in self._kept if one.error_type is not None)

    def change(self) -> tuple[Trend, float | None]:
        """The trend, and the success rate of the newer half minus that of the older half.

        A difference within the two-proportion z test at 95 % is `stable`.
        """
        results = [one.success for one in self._kept]
        middle = len(results) // 2
        if len(results) < MIN_ATTEMPTS:
            return "unknown", None
        older, newer = results[:middle], results[middle:]
        first, second = sum(older) / len(older), sum(newer) / len(newer)
        rate = sum(results) / len(results)
        error = math.sqrt(rate * (1.0 - rate) * (1.0 / len(older) + 1.0 / len(newer)))
        if abs(second - first) <= Z_95 * error:
            return "stable", second - first
        return ("improving" if second > first else "declining"), second - first
