"""Regret of the choice of strategies in a world whose success rates change half-way.

    python benchmarks/bandit.py [--runs 20] [--attempts 2000]

Four strategies. Half-way the best one becomes the worst. The regret is the number of successes that the best
strategy of each half would have had in addition. Beside the chooser of this package:

- `undiscounted`: Thompson sampling with uniform priors that forgets nothing;
- `uniform`: each strategy with the same probability;
- `fixed`: the strategy that is best over both halves, known from the beginning.

`--half-lives` are those of the chooser, in attempts.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from karen_learner.autonomy.strategies import DiscountedTallies, StrategyChooser
from karen_learner.settings import load_settings

RATES = ({"a": 0.75, "b": 0.6, "c": 0.5, "d": 0.3}, {"a": 0.25, "b": 0.45, "c": 0.5, "d": 0.7})
NAMES = tuple(RATES[0])
STEP_S = 60.0

Choose = Callable[[], str]
Learn = Callable[[str, bool], None]


def ours(half_life: float, seed: int) -> tuple[Choose, Learn]:
    """The chooser, with a half-life in attempts."""
    now = [datetime(2030, 1, 1, tzinfo=timezone.utc)]
    values = {"half_life_s": half_life * STEP_S, "domains": {"answering": ", ".join(NAMES)}}
    settings = load_settings(overrides={"strategies": values}, environment={}).strategies
    tallies = DiscountedTallies(settings.half_life_s)
    chooser = StrategyChooser(settings, tallies, clock=lambda: now[0], seed=seed)

    def learn(strategy: str, success: bool) -> None:
        chooser.record(success, strategy, "answering")
        now[0] += timedelta(seconds=STEP_S)

    return lambda: chooser.choose("answering").strategy, learn


def undiscounted(seed: int) -> tuple[Choose, Learn]:
    rng = np.random.default_rng(seed)
    counts = {name: [1.0, 1.0] for name in NAMES}

    def learn(strategy: str, success: bool) -> None:
        counts[strategy][0 if success else 1] += 1.0

    return lambda: max(NAMES, key=lambda name: rng.beta(*counts[name])), learn


def uniform(seed: int) -> tuple[Choose, Learn]:
    rng = random.Random(seed)
    return lambda: rng.choice(NAMES), lambda _strategy, _success: None


def fixed(_seed: int) -> tuple[Choose, Learn]:
    best = max(NAMES, key=lambda name: sum(rates[name] for rates in RATES))
    return lambda: best, lambda _strategy, _success: None


def regret(policy: tuple[Choose, Learn], attempts: int, seed: int) -> tuple[float, float]:
    """The expected regret in both halves."""
    choose, learn = policy
    rng, lost = random.Random(1_000 + seed), [0.0, 0.0]
    for number in range(attempts):
        half = 2 * number // attempts
        strategy, rates = choose(), RATES[half]
        lost[half] += max(rates.values()) - rates[strategy]
        learn(strategy, rng.random() < rates[strategy])
    return lost[0], lost[1]


def main(runs: int, attempts: int, half_lives: list[float]) -> dict[str, Any]:
    policies: dict[str, Callable[[int], tuple[Choose, Learn]]] = {
        f"ours, half-life {one:g}": lambda seed, one=one: ours(one, seed)  # type: ignore[misc]
        for one in half_lives
    }
    policies |= {"undiscounted": undiscounted, "uniform": uniform, "fixed": fixed}
    found = {}
    for name, make in policies.items():
        lost = np.array([regret(make(seed), attempts, seed) for seed in range(runs)])
        total = lost.sum(axis=1)
        found[name] = {
            "regret": round(float(total.mean()), 1),
            "standard_error": round(float(total.std(ddof=1) / runs**0.5), 1),
            "by_half": [round(float(one), 1) for one in lost.mean(axis=0)],
        }
    return {"attempts": attempts, "runs": runs, "policies": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--attempts", type=int, default=2_000)
    parser.add_argument("--half-lives", type=float, nargs="+", default=[50, 150, 500])
    arguments = parser.parse_args()
    print(json.dumps(main(arguments.runs, arguments.attempts, arguments.half_lives), indent=2))
