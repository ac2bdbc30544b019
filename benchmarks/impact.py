"""Measured effects of changes with a known true effect: coverage, false claims, and cumulative effects.

    python benchmarks/impact.py [--runs 2000] [--tenants 400] [--users 400] [--share 0.2] [--seed 0]

A simulated user has an own accuracy (standard deviation 12 points), the same in both periods. The number of
turns with feedback differs widely (geometric, mean 5). `holdback` is `holdback_effect`, `no cluster` takes
turns as independent, `no CUPED` ignores the period before. `series` is a tenant whose accuracy also drifts:
by 1 point (standard deviation) with all tenants and by 0.5 on its own, with 8 control tenants; `own series`
has no control tenants. `claimed` is the share of intervals without zero, `gain` of those above zero,
`visible` the smallest effect that is shown with 80 % power.

The second part sums the effects of twelve changes of a tenant, of 0, +1 or +3 points. "Winners" are the
changes with a significant gain. Measured effects are added, or shrunk (`cumulative_effect`); `later`
measures again over twice the period.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from karen_learner.improvement.tracking.effects import (
    Estimate,
    UserTotals,
    holdback_effect,
    series_effect,
)
from karen_learner.improvement.tracking.shrinkage import cumulative_effect
from karen_learner.metrics import Z_95

Floats = NDArray[np.float64]
Row = tuple[float, float, float, float]
"""Estimate, bounds of its 95 % interval, and true value."""

EFFECTS = (0.0, 0.01, 0.03)
BASE, USER_SD, HIGHEST, TURNS = 0.80, 0.12, 0.93, 6.0
COMMON_SD, OWN_SD, CONTROLS = 0.01, 0.005, 8
CHANGES, CHANCES = 12, (0.5, 0.3, 0.2)


def simulated(
    random: np.random.Generator, users: int, share: float, effect: float, drift: float = 0.0
) -> tuple[UserTotals, UserTotals]:
    """Users of one tenant in a period and in twice that period, beside the period before.

    The drift moves all of them. No accuracy is so high that the effect is cut.
    """
    accuracy = np.clip(random.normal(BASE, USER_SD, users), 0.1, HIGHEST)
    kept = random.random(users) < share
    after = np.clip(accuracy + drift + np.where(kept, 0.0, effect), 0.0, 1.0)
    before, first, second = (random.geometric(1.0 / TURNS, (3, users)) - 1).astype(float)
    right_before, right, right_again = (
        random.binomial(count.astype(int), share_right).astype(float)
        for count, share_right in ((before, accuracy), (first, after), (second, after))
    )
    totals = UserTotals(total=right, count=first, total_before=right_before, count_before=before, kept=kept)
    return totals, replace(totals, total=right + right_again, count=first + second)


def by_turn(users: UserTotals) -> Estimate:
    """The difference of both shares, with turns as independent."""
    found = required(holdback_effect(without_before(users)))
    variance = 0.0
    for kept, mean in ((True, found.before), (False, found.after)):
        variance += mean * (1.0 - mean) / users.count[users.kept == kept].sum()
    return replace(found, change=found.after - found.before, standard_error=math.sqrt(variance), degrees=1e9)


def without_before(users: UserTotals) -> UserTotals:
    nothing = np.zeros(len(users.count))
    return replace(users, total_before=nothing, count_before=nothing)


def required(estimate: Estimate | None) -> Estimate:
    if estimate is None:
        raise SystemExit("too few users on one side: raise --users")
    return estimate


def series(random: np.random.Generator, users: int, effect: float, *, controls: bool) -> Estimate:
    """A tenant with a change for all users, and control tenants without one."""
    common = random.normal(0.0, COMMON_SD)
    drifts = common + random.normal(0.0, OWN_SD, CONTROLS + 1)
    own, _ = simulated(random, users, 0.0, effect, drifts[0])
    others = [required(series_effect(simulated(random, users, 0.0, 0.0, one)[0])) for one in drifts[1:]]
    return required(series_effect(own, others if controls else ()))


def print_effects(runs: int, users: int, share: float, seed: int) -> None:
    designs: dict[str, Callable[[np.random.Generator, float], Estimate]] = {
        "holdback": lambda random, effect: required(
            holdback_effect(simulated(random, users, share, effect)[0])
        ),
        "no CUPED": lambda random, effect: required(
            holdback_effect(without_before(simulated(random, users, share, effect)[0]))
        ),
        "no cluster": lambda random, effect: by_turn(simulated(random, users, share, effect)[0]),
        "series": lambda random, effect: series(random, users, effect, controls=True),
        "own series": lambda random, effect: series(random, users, effect, controls=False),
    }
    print(f"{users} users, {share:.0%} held back, {runs} runs. Points of accuracy.\n")
    print(
        f"{'design':<11} {'true':>5} {'mean':>6} {'covered':>8} {'claimed':>8} {'gain':>6} {'error':>6} "
        f"{'visible':>8}"
    )
    for name, design in designs.items():
        for effect in EFFECTS:
            random = np.random.default_rng(seed)
            found = [design(random, effect) for _ in range(runs)]
            bounds = np.array([one.interval for one in found])
            covered = np.mean((bounds[:, 0] <= effect) & (effect <= bounds[:, 1]))
            claimed = np.mean((bounds[:, 0] > 0.0) | (bounds[:, 1] < 0.0))
            gained = np.mean(bounds[:, 0] > 0.0)
            mean, error = (
                np.mean([getattr(one, key) for one in found]) for key in ("change", "standard_error")
            )
            visible = np.mean([one.smallest_effect for one in found])
            print(
                f"{name:<11} {100 * effect:>5.1f} {100 * mean:>6.2f} {covered:>8.1%} {claimed:>8.1%} "
                f"{gained:>6.1%} {100 * error:>6.2f} {100 * visible:>8.2f}"
            )


def print_sums(tenants: int, users: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    found = [sums(random, users, share) for _ in range(tenants)]
    print(f"\n{tenants} tenants with {users} users, {CHANGES} changes each, true effects {CHANCES}.")
    print("Sums of effects of a tenant, in points.\n")
    print(f"{'sum':<26} {'true':>6} {'mean':>6} {'bias':>12} {'covered':>8}")
    for name in found[0]:
        estimate, low, high, true = np.array([one[name] for one in found]).T
        bias = 100 * (estimate - true)
        error = bias.std(ddof=1) / math.sqrt(len(bias))
        covered = np.mean((low <= true) & (true <= high))
        print(
            f"{name:<26} {100 * true.mean():>6.2f} {100 * estimate.mean():>6.2f} "
            f"{bias.mean():>6.2f} +-{error:>4.2f} {covered:>8.1%}"
        )


def sums(random: np.random.Generator, users: int, share: float) -> dict[str, Row]:
    """Estimate, interval and truth of each kind of sum, for the changes of one tenant."""
    true = random.choice(EFFECTS, CHANGES, p=CHANCES)
    pairs = [simulated(random, users, share, one) for one in true]
    first = [required(holdback_effect(one)) for one, _ in pairs]
    whole = [required(holdback_effect(one)) for _, one in pairs]
    winners = np.array([one.interval[0] > 0.0 for one in first])
    everything = np.ones(CHANGES, dtype=bool)
    return {
        "winners, measured": measured(first, winners, true),
        "winners, shrunk": shrunk(first, winners, true),
        "winners, shrunk, later": shrunk(whole, winners, true),
        "all, measured": measured(first, everything, true),
        "all, shrunk": shrunk(first, everything, true),
        "all, shrunk, later": shrunk(whole, everything, true),
    }


def measured(found: Sequence[Estimate], chosen: NDArray[np.bool_], true: Floats) -> Row:
    effects, errors = arrays(found)
    total, half = effects[chosen].sum(), Z_95 * math.sqrt((errors[chosen] ** 2).sum())
    return (total, total - half, total + half, true[chosen].sum())


def shrunk(found: Sequence[Estimate], chosen: NDArray[np.bool_], true: Floats) -> Row:
    total = cumulative_effect(*arrays(found), chosen)
    return (total.total, total.low, total.high, true[chosen].sum())


def arrays(found: Sequence[Estimate]) -> tuple[Floats, Floats]:
    return np.array([one.change for one in found]), np.array([one.standard_error for one in found])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--tenants", type=int, default=400)
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print_effects(given.runs, given.users, given.share, given.seed)
    print_sums(given.tenants, given.users, given.share, given.seed)


if __name__ == "__main__":
    main()
