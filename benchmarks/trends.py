"""Trends over 20 metrics: the share of stable ones that are told as moving, and the power for real changes.

    python benchmarks/trends.py [--runs 500]

Users differ in activity (lognormal) and in their rates, and most are active in both periods. A naive test
takes each turn as independent, and is not adjusted for the number of metrics.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from karen_learner.improvement.samples import AFTER, BEFORE, CLUSTERS, COUNT, SUM, Metric
from karen_learner.improvement.trends import ALPHA, NORMAL, adjust, change_of, direction

METRICS = 20
MEAN = 0.8
SPREAD = 0.15
"""Standard deviation of the rates of users."""
MOVING = ("improving", "declining")
METRIC = Metric("accuracy")


def sums_of(users: int, change: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Sums of one metric whose mean changes by `change` between the periods."""
    rates = np.clip(random.normal(MEAN, SPREAD, users), 0.0, 1.0)
    found = np.zeros((2, 2, CLUSTERS))
    clusters = random.integers(CLUSTERS, size=users)
    for side, shift in ((BEFORE, 0.0), (AFTER, change)):
        turns = np.ceil(random.lognormal(1.0, 1.0, users)).astype(int) * (random.random(users) < 0.8)
        hits = random.binomial(turns, np.clip(rates + shift, 0.0, 1.0))
        np.add.at(found[side, COUNT], clusters, turns)
        np.add.at(found[side, SUM], clusters, hits)
    return found


def naive_p(sums: NDArray[np.float64]) -> float:
    """The p-value of a test of two proportions with independent turns."""
    counts, totals = sums[:, COUNT].sum(axis=1), sums[:, SUM].sum(axis=1)
    pooled = totals.sum() / counts.sum()
    error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / counts).sum())
    return float(2.0 * NORMAL.cdf(-abs(float(np.diff(totals / counts)[0])) / error))


def told(users: int, change: float, runs: int, random: np.random.Generator) -> tuple[dict[str, float], float]:
    """The share of each direction among the metrics that change, and the share of naive claims.

    With a change, one metric of 20 changes; without one, all are counted.
    """
    counts: dict[str, int] = {}
    naive = 0
    for _ in range(runs):
        changes = [change, *[0.0] * (METRICS - 1)]
        sums = [sums_of(users, one, random) for one in changes]
        found = [change_of(one, METRIC, tests=METRICS) for one in sums]
        adjusted = adjust([one.p for one in found])
        for one, p, raw in list(zip(found, adjusted, sums, strict=True))[: 1 if change else None]:
            name = direction(one, p, METRIC)
            counts[name] = counts.get(name, 0) + 1
            naive += naive_p(raw) <= ALPHA
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}, naive / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    random = np.random.default_rng(0)
    print(f"{METRICS} metrics, {runs} runs; target: at most {ALPHA:.0%} of stable metrics told as moving")
    for users in (15, 60, 300, 3_000):
        for change in (0.0, 0.05, 0.1):
            shares, naive = told(users, change, runs, random)
            moving = sum(shares.get(name, 0.0) for name in MOVING)
            kind = "stable metrics" if change == 0.0 else f"a change of {100 * change:+.0f} points"
            print(
                f"{users:5} users, {kind}: told as moving {moving:.2%} (naive {naive:.2%}), "
                f"stable {shares.get('stable', 0.0):.1%}, unclear {shares.get('unclear', 0.0):.1%}"
            )


if __name__ == "__main__":
    main()
