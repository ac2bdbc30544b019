"""Finds a lasting rise of an error rate in a stream of outcomes, soon and with few false alarms. Pure.

An e-detector of the Shiryaev-Roberts kind: Shin, Ramdas and Rinaldo, *E-detectors: a nonparametric framework
for sequential change detection*, New England Journal of Statistics in Data Science, 2023. Each assumed rise
of the error rate gives a likelihood ratio against the reference rate; their mean is the e-value. While the
expected error given the past is at most the reference, false alarms are rare: the mean number of outcomes
before one is at least `1 / ALPHA`. The outcomes may depend on each other.

The reference is the upper bound of an interval for the error rate of older outcomes. Its precision grows with
the history. The newest outcomes are not part of it: a slow change must not hide itself.
`benchmarks/detection.py` measures the delays and the false alarms.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

ALPHA = 1e-4
"""The inverse of the mean number of outcomes before a false alarm."""
RISES = (0.05, 0.1, 0.2, 0.4)
"""Assumed rises, as shares of the distance between the reference rate and 1."""
REFERENCE_Z = 1.65
"""Quantile of the reference interval."""
NEWEST = 300
"""Outcomes that are not part of the reference yet."""
MIN_HISTORY = 100
"""Outcomes without which there is no reference."""
SMALLEST_RATE, LARGEST_RATE = 0.005, 0.95


@dataclass(eq=False)
class DegradationDetector:
    """The detector of one stream. `evidence` is its e-value: an alarm from `1 / ALPHA`.

    `history` and `errors` are number and sum of the errors behind the reference.
    """

    history: int = 0
    errors: float = 0.0
    evidence: float = 0.0
    _newest: deque[float] = field(default_factory=deque)
    _sums: list[float] = field(default_factory=lambda: [0.0] * len(RISES))

    @property
    def reference(self) -> float | None:
        """The highest error rate that counts as unchanged; None with too few outcomes, or above 95 %."""
        if self.history < MIN_HISTORY:
            return None
        bound = _upper_bound(self.errors, self.history)
        return max(SMALLEST_RATE, bound) if bound <= LARGEST_RATE else None

    @property
    def alarm(self) -> bool:
        """Whether the error rate has risen."""
        return self.evidence >= 1.0 / ALPHA

    @property
    def recent_rate(self) -> float | None:
        """The error rate of the newest outcomes; None without any."""
        return sum(self._newest) / len(self._newest) if self._newest else None

    def update(self, error: float) -> float:
        """Add the error (0 to 1) of the next outcome, and return the e-value."""
        self._newest.append(error)
        if len(self._newest) > NEWEST:
            self.errors += self._newest.popleft()
            self.history += 1
        reference = self.reference
        if reference is not None:
            for place, rise in enumerate(RISES):
                rate = reference + rise * (1.0 - reference)
                ratio = error * rate / reference + (1.0 - error) * (1.0 - rate) / (1.0 - reference)
                self._sums[place] = (self._sums[place] + 1.0) * ratio
            self.evidence = sum(self._sums) / len(RISES)
        return self.evidence

    def update_all(self, errors: Iterable[float]) -> None:
        """Add outcomes in order."""
        for error in errors:
            self.update(error)

    def restart(self) -> None:
        """Forget the evidence and the history, after an alarm or a new model."""
        self.history, self.errors, self.evidence = 0, 0.0, 0.0
        self._newest.clear()
        self._sums = [0.0] * len(RISES)


def _upper_bound(errors: float, history: int) -> float:
    """The upper bound of Wilson's interval."""
    rate, z2 = errors / history, REFERENCE_Z**2 / history
    spread = REFERENCE_Z * math.sqrt(rate * (1.0 - rate) / history + z2 / (4.0 * history))
    return (rate + z2 / 2.0 + spread) / (1.0 + z2)
