"""Delay and false alarms of the detector of rising error rates, beside river's ADWIN if it is installed.

    python benchmarks/detection.py [--runs 100] [--outcomes 100000]

The first table has the share of runs that find a drop of 15 points within 300 outcomes. It also has the
median delay. Both are by base error rate and history. The second one has the false alarms in 10,000 outcomes
of stationary streams. The target: 95 % at a base error of 0.1 after 1,000 outcomes, at most one false alarm.
`pip install river` adds the peer.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from karen_learner.monitoring.degradation import DegradationDetector

WITHIN = 300
WATCHED = 1_000
"""Outcomes after the change; a run without an alarm has this delay."""
DROP = 0.15
RATES = (0.1, 0.2, 0.3)
HISTORIES = (300, 1_000)
TARGET_SHARE, TARGET_FALSE_ALARMS = 0.95, 1.0


class Detector(Protocol):
    """Finds changes in a stream of errors."""

    def alarm(self, error: float) -> bool:
        """Add an error; whether there is an alarm. An alarm starts anew."""


class Ours:
    def __init__(self) -> None:
        self._detector = DegradationDetector()

    def alarm(self, error: float) -> bool:
        self._detector.update(error)
        found = self._detector.alarm
        if found:
            self._detector.restart()
        return found


def peers() -> dict[str, Callable[[], Detector]]:
    try:
        from river.drift import ADWIN
    except ImportError:
        return {}

    class Adwin:
        def __init__(self) -> None:
            self._detector = ADWIN()

        def alarm(self, error: float) -> bool:
            before = self._detector.estimation
            self._detector.update(error)
            return bool(self._detector.drift_detected and self._detector.estimation > before)

    return {"river ADWIN": Adwin}


def errors(rate: float, count: int, seed: int) -> Iterator[float]:
    rng = random.Random(seed)
    return (float(rng.random() < rate) for _ in range(count))


def delays(make: Callable[[], Detector], rate: float, history: int, runs: int) -> list[int]:
    """The outcomes from the change to the alarm in each run. An alarm before the change does not count."""
    found = []
    for seed in range(runs):
        detector = make()
        for error in errors(rate, history, seed):
            detector.alarm(error)
        stream = enumerate(errors(rate + DROP, WATCHED, seed + runs), start=1)
        found.append(next((number for number, error in stream if detector.alarm(error)), WATCHED))
    return found


def false_alarms(make: Callable[[], Detector], rate: float, outcomes: int) -> float:
    """False alarms in 10,000 outcomes of a stationary stream."""
    detector = make()
    return 10_000 * sum(detector.alarm(error) for error in errors(rate, outcomes, 7)) / outcomes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--outcomes", type=int, default=100_000)
    options = parser.parse_args()
    detectors: dict[str, Callable[[], Detector]] = {"ours": Ours, **peers()}
    print(f"{'detector':14}{'base error':>11}{'history':>9}{'within 300':>12}{'median delay':>14}")
    for name, make in detectors.items():
        for rate in RATES:
            for history in HISTORIES:
                found = delays(make, rate, history, options.runs)
                share = sum(one <= WITHIN for one in found) / len(found)
                median = statistics.median(found)
                print(f"{name:14}{rate:>11}{history:>9}{share:>12.0%}{median:>14.0f}", flush=True)
    print(f"target: {TARGET_SHARE:.0%} at a base error of 0.1 after 1,000 outcomes\n")
    print(f"{'detector':14}{'base error':>11}{'false alarms in 10,000':>24}{'us an outcome':>15}")
    for name, make in detectors.items():
        for rate in RATES:
            started = time.perf_counter()
            rate_of_alarms = false_alarms(make, rate, options.outcomes)
            micros = 1e6 * (time.perf_counter() - started) / options.outcomes
            print(f"{name:14}{rate:>11}{rate_of_alarms:>24.2f}{micros:>15.1f}", flush=True)
    print(f"target: at most {TARGET_FALSE_ALARMS:g}")


if __name__ == "__main__":
    main()
