"""Timeouts, retries, concurrency and pool sizes, tuned within bounds from measured distributions.

- Timeout: `TIMEOUT_MARGIN` times the 99 % quantile of the latency. An attempt that timed out took longer than
  any measured one.
- Retries: as many as leave at most `LEFT` of the failures, by the success rate of repetitions.
- Concurrency: by Little's law the mean number of attempts at one time is rate x latency. Twice its square
  root is added as a reserve (Halfin and Whitt, *Operations Research* 29, 1981). The share of attempts that an
  overload ended is subtracted. The pool of a domain serves all its strategies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

from karen_learner.autonomy.strategies.tallies import DiscountedTallies
from karen_learner.contracts import Clock
from karen_learner.monitoring.window import latency_bin, latency_quantile
from karen_learner.records.strategies import Limits
from karen_learner.settings import StrategySettings

MIN_MEASURED = 30.0
"""Discounted measurements without which a limit is not tuned."""
QUANTILE = 0.99
TIMEOUT_MARGIN = 1.5
LEFT = 0.05
"""The share of failures that may be left after all retries."""
USELESS_BELOW = 0.1
"""A success rate of repetitions below which there are no retries."""
TIMEOUTS = frozenset({"timeout", "timed_out", "TimeoutError"})
OVERLOADS = frozenset({"overload", "overloaded", "rate_limit", "too_many_requests", "429", "503"})


class LimitTuner:
    """Measures attempts and gives limits. Not thread-safe."""

    def __init__(self, settings: StrategySettings, tallies: DiscountedTallies, *, clock: Clock) -> None:
        self._settings = settings
        self._tallies = tallies
        self._clock = clock
        self._last: dict[tuple[str, str], datetime] = {}

    def observe(self, strategy: str, domain: str, error_type: str | None, duration_ms: float | None) -> None:
        """Count an attempt. One without `duration_ms` counts only if a timeout or an overload ended it."""
        if duration_ms is None and error_type not in TIMEOUTS | OVERLOADS:
            return
        now, place = self._clock(), (domain, strategy)
        counts = {"attempts": 1.0}
        if (last := self._last.get(place)) is not None and now > last:
            counts["seconds"] = min((now - last).total_seconds(), self._tallies.half_life_s)
        self._last[place] = now
        if duration_ms is not None:
            counts["busy_ms"] = duration_ms
        if error_type in TIMEOUTS:
            counts["timeouts"] = 1.0
        elif error_type in OVERLOADS:
            counts["overloads"] = 1.0
        elif duration_ms is not None:
            counts[str(latency_bin(duration_ms))] = 1.0
        self._tallies.add("latency", domain, strategy, counts, now)

    def limits(self, domain: str, strategy: str) -> Limits:
        """The limits of a strategy in a domain."""
        now = self._clock()
        counts = self._tallies.counts("latency", domain, strategy, now)
        bins = {int(name): value for name, value in counts.items() if name.isdigit()}
        measured = sum(bins.values())
        in_domain = [of for there, _, of in self._tallies.rows("latency", now) if there == domain]
        load, whole = _load(counts), [_load(of) for of in in_domain]
        enough = measured >= MIN_MEASURED
        return Limits(
            timeout_s=self._timeout(bins, counts.get("timeouts", 0.0)) if enough else None,
            retries=self._retries(domain, now),
            concurrency=self._places(load, counts, self._settings.concurrency_max) if enough else None,
            pool_size=self._places(sum(whole), {}, self._settings.pool_max) if enough else None,
            measured=measured,
        )

    def _timeout(self, bins: Mapping[int, float], timeouts: float) -> float:
        measured = sum(bins.values())
        found = latency_quantile(bins, QUANTILE * (measured + timeouts) / measured)
        low, high = self._settings.timeout_min_s, self._settings.timeout_max_s
        if found is None:  # more than 1 % timed out
            return high
        return min(high, max(low, TIMEOUT_MARGIN * found / 1000.0))

    def _retries(self, domain: str, now: datetime) -> int | None:
        successes = failures = 0.0
        for there, _, counts in self._tallies.rows("follow_up", now):
            if there == domain:
                successes += counts.get("retry+", 0.0) + counts.get("back_off+", 0.0)
                failures += counts.get("retry-", 0.0) + counts.get("back_off-", 0.0)
        if successes + failures < MIN_MEASURED:
            return None
        rate = successes / (successes + failures)
        if rate < USELESS_BELOW:
            return 0
        needed = 1 if rate >= 1.0 - LEFT else math.ceil(math.log(LEFT) / math.log(1.0 - rate))
        return min(self._settings.retries_max, needed)

    @staticmethod
    def _places(load: float, counts: dict[str, float], most: int) -> int:
        kept = 1.0 - counts.get("overloads", 0.0) / max(1.0, counts.get("attempts", 0.0))
        return max(1, min(most, math.ceil(kept * (load + 2.0 * math.sqrt(load)))))


def _load(counts: dict[str, float]) -> float:
    """The mean number of attempts at one time."""
    seconds = counts.get("seconds", 0.0)
    return counts.get("busy_ms", 0.0) / 1000.0 / seconds if seconds > 0.0 else 0.0
