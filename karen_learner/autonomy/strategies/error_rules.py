"""Rules for errors, learned by error type and domain from the attempts that follow an error.

The next attempt at the same task shows the reaction: the same strategy at once is a `retry`, after a wait a
`back_off`, another strategy a `switch`. Its result counts for the reaction.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import NamedTuple

import numpy as np

from karen_learner.autonomy.strategies.tallies import DiscountedTallies
from karen_learner.autonomy.strategies.thompson import Posterior, choice_probabilities, posterior
from karen_learner.contracts import Clock
from karen_learner.metrics import wilson
from karen_learner.records.strategies import ErrorAction, ErrorRule
from karen_learner.settings import StrategySettings

REACTIONS: tuple[ErrorAction, ...] = ("retry", "back_off", "switch")
DEFAULT: ErrorAction = "back_off"
"""The reaction without evidence: a wait harms an overloaded service least."""
BACK_OFF_S = 1.0
"""Seconds after an error from which a repetition is a `back_off`."""
MIN_EVIDENCE = 10.0
"""Discounted attempts after an error without which its rule is not learned."""
MIN_TO_GIVE_UP = 20.0
GIVE_UP_BELOW = 0.1
"""A rule gives up if the success rate of every tried reaction is below this, by its upper bound."""
FORGOTTEN_S = 3_600.0
"""Seconds after which an attempt does not count as the reaction to an error."""
MAX_TASKS = 10_000
Z_90 = 1.6449


class Failure(NamedTuple):
    """The last failed attempt at a task."""

    error_type: str
    strategy: str
    at: datetime


class ErrorRules:
    """Learns from attempts and gives rules. Not thread-safe."""

    def __init__(
        self, settings: StrategySettings, tallies: DiscountedTallies, *, clock: Clock, seed: int | None = None
    ) -> None:
        self._settings = settings
        self._tallies = tallies
        self._clock = clock
        self._rng = np.random.default_rng(seed)
        self._failures: OrderedDict[tuple[str, str | None], Failure] = OrderedDict()

    def observe(
        self, success: bool, strategy: str, domain: str, error_type: str | None, task_id: str | None
    ) -> None:
        """Count an attempt. Without `task_id`, it follows the last attempt in its domain."""
        now, place = self._clock(), (domain, task_id)
        former = self._failures.pop(place, None)
        if former is not None and (now - former.at).total_seconds() <= FORGOTTEN_S:
            action = _reaction(former, strategy, now)
            result = f"{action}+" if success else f"{action}-"
            self._tallies.add("follow_up", domain, former.error_type, {result: 1.0}, now)
        if not success and error_type is not None:
            self._tallies.add("follow_up", domain, error_type, {"errors": 1.0}, now)
            self._failures[place] = Failure(error_type, strategy, now)
            if len(self._failures) > MAX_TASKS:
                self._failures.popitem(last=False)

    def rule(self, error_type: str, domain: str) -> ErrorRule:
        """The rule of the domain, else of all domains."""
        here = self._tallies.counts("follow_up", domain, error_type, self._clock())
        if _tried(here) >= MIN_EVIDENCE:
            return _rule(error_type, domain, here)
        everywhere = self._everywhere(error_type)
        where = None if _tried(everywhere) > _tried(here) else domain
        return _rule(error_type, where, everywhere)

    def choose(self, error_type: str, domain: str) -> ErrorAction:
        """The reaction to an error: mostly that of the rule, at times another one, to learn from it."""
        rule = self.rule(error_type, domain)
        if rule.action == "give_up" or self._settings.frozen:
            return rule.action
        here = self._tallies.counts("follow_up", domain, error_type, self._clock())
        others = self._everywhere(error_type)
        shares = choice_probabilities(
            {action: self._posterior(action, here, others) for action in REACTIONS},
            best=rule.action,
            max_exploration=self._settings.max_exploration,
            rng=self._rng,
        )
        return REACTIONS[int(self._rng.choice(len(REACTIONS), p=[shares[one] for one in REACTIONS]))]

    def rules(self, domain: str | None = None) -> tuple[ErrorRule, ...]:
        """The rules of all observed error types, those with the most errors first."""
        rows = self._tallies.rows("follow_up", self._clock())
        found = [self.rule(name, of) for of, name, _ in rows if domain in (None, of)]
        return tuple(sorted(dict.fromkeys(found), key=lambda one: (-one.observed, one.error_type)))

    def _posterior(self, action: str, here: dict[str, float], everywhere: dict[str, float]) -> Posterior:
        own = here.get(f"{action}+", 0.0), here.get(f"{action}-", 0.0)
        total = everywhere.get(f"{action}+", 0.0), everywhere.get(f"{action}-", 0.0)
        others = max(0.0, total[0] - own[0]), max(0.0, total[1] - own[1])
        return posterior(own, others, prior_mean=0.5, prior=2.0, borrowed=self._settings.borrowed_attempts)

    def _everywhere(self, error_type: str) -> dict[str, float]:
        total: dict[str, float] = {}
        for _, name, counts in self._tallies.rows("follow_up", self._clock()):
            if name == error_type:
                for key, value in counts.items():
                    total[key] = total.get(key, 0.0) + value
        return total


def _reaction(former: Failure, strategy: str, now: datetime) -> ErrorAction:
    if strategy != former.strategy:
        return "switch"
    return "back_off" if (now - former.at).total_seconds() >= BACK_OFF_S else "retry"


def _tried(counts: dict[str, float]) -> float:
    return sum(value for name, value in counts.items() if name != "errors")


def _rule(error_type: str, domain: str | None, counts: dict[str, float]) -> ErrorRule:
    """The reaction with the highest lower bound of its success rate, if there is enough evidence."""
    trials = {action: _trials(counts, action) for action in REACTIONS}
    tried = {action: one for action, one in trials.items() if one[1] > 0.5}
    shown = [f"success after {name.replace('_', ' ')} {a:.0f} of {n:.0f}" for name, (a, n) in tried.items()]
    evidence = f"{counts.get('errors', 0.0):.0f} errors; {', '.join(shown) or 'no reaction observed'}"
    action, learned = DEFAULT, _tried(counts) >= MIN_EVIDENCE
    if learned:
        action = max(tried, key=lambda name: wilson(*tried[name], z=Z_90)[0])
        highest = max(wilson(*one, z=Z_90)[1] for one in tried.values())
        if _tried(counts) >= MIN_TO_GIVE_UP and highest < GIVE_UP_BELOW:
            action = "give_up"
    return ErrorRule(
        error_type=error_type,
        domain=domain,
        action=action,
        learned=learned,
        observed=counts.get("errors", 0.0),
        evidence=evidence if learned else f"the default; {evidence}",
    )


def _trials(counts: dict[str, float], action: str) -> tuple[float, float]:
    successes = counts.get(f"{action}+", 0.0)
    return successes, successes + counts.get(f"{action}-", 0.0)
