"""`StrategyChooser`: the strategy of the next attempt in a domain, by discounted Thompson sampling.

Raj and Kalyani, *Taming non-stationary bandits: a Bayesian approach*, 2017: the successes and failures of all
strategies decay, so the choice follows a world that changes. Here they decay by time. A result that comes
late counts at the time of its choice.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from cachetools import LRUCache

from karen_learner.autonomy.strategies.tallies import DiscountedTallies
from karen_learner.autonomy.strategies.thompson import Posterior, choice_probabilities, posterior
from karen_learner.contracts import Clock
from karen_learner.errors import InvalidInput
from karen_learner.records import check_name, new_id
from karen_learner.records.strategies import ALL_DOMAINS, StrategyEstimate, StrategySwitch
from karen_learner.settings import StrategySettings

logger = logging.getLogger(__name__)

PRIOR = 4.0
"""The weight of the prior of a strategy without attempts, in attempts."""
PESSIMISM = 0.5
"""The prior mean, as a share of the success rate of all strategies."""
UNKNOWN_RATE = 0.5
"""The success rate of all strategies before the first attempt."""
WAITING = 10_000
"""Choices that wait for their result. The result of an older one counts at its own time."""

Counts = tuple[float, float]


class Choice(NamedTuple):
    """A chosen strategy. `propensity` is the probability with which it was chosen."""

    choice_id: str
    domain: str
    strategy: str
    propensity: float
    is_exploration: bool
    frozen: bool
    at: datetime


class StrategyChooser:
    """Chooses strategies, and counts their attempts in `tallies`. Not thread-safe.

    `settings.domains` names strategies by domain, the safe default first. Other domains use the strategies
    that were recorded in them, else those of all domains.
    """

    def __init__(
        self, settings: StrategySettings, tallies: DiscountedTallies, *, clock: Clock, seed: int | None = None
    ) -> None:
        self._settings = settings
        self._tallies = tallies
        self._clock = clock
        self._rng = np.random.default_rng(seed)
        self._waiting: LRUCache[str, Choice] = LRUCache(WAITING)
        self._switches: tuple[StrategySwitch, ...] = ()

    # Choices ---------------------------------------------------------------------------------

    def choose(self, domain: str) -> Choice:
        """The strategy of the next attempt. Raises InvalidInput for an unusable domain."""
        check_name(domain, "domain")
        frozen, default = self.frozen(domain), self.default(domain)
        if frozen is not None:
            return self._chosen(domain, frozen, 1.0, best=frozen, frozen=True)
        posteriors = self._posteriors(domain)
        best = _best(posteriors, default)
        shares = choice_probabilities(
            posteriors, best=best, max_exploration=self._settings.max_exploration, rng=self._rng
        )
        names = list(shares)
        strategy = names[int(self._rng.choice(len(names), p=list(shares.values())))]
        return self._chosen(domain, strategy, shares[strategy], best=best)

    def _chosen(
        self, domain: str, strategy: str, propensity: float, *, best: str, frozen: bool = False
    ) -> Choice:
        choice = Choice(
            new_id(), domain, strategy, propensity, strategy != best, frozen, self._clock()
        )  # fmt: skip
        self._waiting[choice.choice_id] = choice
        logger.debug("strategy %r for domain %r with propensity %.3f", strategy, domain, propensity)
        return choice

    def record(
        self, success: bool, strategy: str, domain: str, *, choice_id: str | None = None
    ) -> Choice | None:
        """Count an attempt; its choice, if `choice_id` names one that waits. Raises InvalidInput."""
        choice = self._waiting.get(choice_id) if choice_id is not None else None
        if choice is not None and (choice.strategy, choice.domain) != (strategy, domain):
            raise InvalidInput(
                f"the choice {choice_id!r:.60} is {choice.strategy!r} in {choice.domain!r}, "
                f"not {strategy!r} in {domain!r}"
            )
        if choice is not None:
            del self._waiting[choice.choice_id]
        at = self._clock() if choice is None else min(choice.at, self._clock())
        self._tallies.add("attempts", domain, strategy, {"success" if success else "failure": 1.0}, at)
        return choice

    # Switches --------------------------------------------------------------------------------

    def load_switches(self, switches: Sequence[StrategySwitch]) -> None:
        """Replace all switches by stored ones."""
        self._switches = tuple(switches)

    def frozen(self, domain: str) -> str | None:
        """The strategy that a switch sets for the domain; None without one."""
        here = [one for one in self._active("frozen") if one.domain in (domain, ALL_DOMAINS)]
        if here:
            return max(here, key=lambda one: one.domain != ALL_DOMAINS).strategy
        return self.default(domain) if self._settings.frozen else None

    def barred(self, domain: str) -> frozenset[str]:
        """The strategies that a switch excludes from a domain."""
        return frozenset(
            one.strategy for one in self._active("barred") if one.domain in (domain, ALL_DOMAINS)
        )

    def _active(self, name: str) -> list[StrategySwitch]:
        now = self._clock()
        return [one for one in self._switches if one.name == name and (one.until is None or one.until > now)]

    # Knowledge -------------------------------------------------------------------------------

    def domains(self) -> tuple[str, ...]:
        """The domains of the settings, and those with attempts."""
        seen = {domain for domain, _, _ in self._tallies.rows("attempts", self._clock())}
        return tuple(sorted(seen | self._settings.domains.keys()))

    def strategies(self, domain: str) -> tuple[str, ...]:
        """The strategies that can be chosen in a domain, the safe default first."""
        known = self._known(domain)
        default = self.default(domain)
        return (default, *sorted(known - {default}))

    def default(self, domain: str) -> str:
        """The safe default of a domain."""
        configured = self._settings.domains.get(domain, ())
        if configured:
            return configured[0]
        counts = self._counts()
        known = self._known(domain)
        if self._settings.default in known:
            return self._settings.default
        used = {name: sum(sum(counts[name][one]) for one in counts[name]) for name in known}
        return max(sorted(used), key=lambda name: used[name])

    def _known(self, domain: str) -> set[str]:
        counts = self._counts()
        known = set(self._settings.domains.get(domain, ()))
        known |= {name for name, of in counts.items() if domain in of}
        return known or set(counts) or {self._settings.default}

    def estimates(self, domain: str) -> tuple[StrategyEstimate, ...]:
        """All strategies of a domain, the best first."""
        counts, default, barred = self._counts(), self.default(domain), self.barred(domain)
        found = self._posteriors(domain, with_barred=True)
        best = self.frozen(domain) or _best(self._posteriors(domain), default)
        estimates = []
        for strategy, one in found.items():
            own, (low, high) = counts[strategy].get(domain, (0.0, 0.0)), one.interval()
            estimates.append(
                StrategyEstimate(
                    strategy=strategy,
                    successes=own[0],
                    failures=own[1],
                    expected=one.mean,
                    low=low,
                    high=high,
                    is_best=strategy == best,
                    is_default=strategy == default,
                    barred=strategy in barred,
                )
            )
        return tuple(sorted(estimates, key=lambda one: (-one.is_best, -one.expected, one.strategy)))

    def best(self, domain: str) -> str:
        """The allowed strategy with the highest expected success rate; the default among equals."""
        return _best(self._posteriors(domain), self.default(domain))

    def _posteriors(self, domain: str, *, with_barred: bool = False) -> dict[str, Posterior]:
        counts, names = self._counts(), self.strategies(domain)
        allowed = names if with_barred else [name for name in names if name not in self.barred(domain)]
        rate = _rate([one for of in counts.values() for one in of.values()])
        found = {}
        for name in allowed or names:
            of = counts[name]
            others = [one for other, one in of.items() if other != domain]
            found[name] = posterior(
                of.get(domain, (0.0, 0.0)),
                (sum(one[0] for one in others), sum(one[1] for one in others)),
                prior_mean=PESSIMISM * rate,
                prior=PRIOR,
                borrowed=self._settings.borrowed_attempts,
            )
        return found

    def _counts(self) -> defaultdict[str, dict[str, Counts]]:
        """Discounted successes and failures, by strategy and domain."""
        found: defaultdict[str, dict[str, Counts]] = defaultdict(dict)
        for domain, name, counts in self._tallies.rows("attempts", self._clock()):
            found[name][domain] = (counts.get("success", 0.0), counts.get("failure", 0.0))
        return found


def _rate(counts: Sequence[Counts]) -> float:
    """The success rate over all counts, with one assumed attempt."""
    successes, failures = (sum(column) for column in zip(*counts, strict=True)) if counts else (0.0, 0.0)
    return (successes + UNKNOWN_RATE) / (successes + failures + 1.0)


def _best(posteriors: Mapping[str, Posterior], default: str) -> str:
    return max(posteriors, key=lambda name: (posteriors[name].mean, name == default))
