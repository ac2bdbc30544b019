"""Thompson sampling with a cap on exploration, as probabilities of choices. Pure.

Thompson sampling chooses each strategy with the probability that it is the best one. The probabilities are
computed from draws of the posterior distributions, and the choice is drawn from them. So the propensity of
each choice is known exactly. The evaluation of other policies on logged choices needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

SAMPLES = 1_000


class Posterior(NamedTuple):
    """A beta distribution of a success rate."""

    successes: float
    failures: float

    @property
    def mean(self) -> float:
        return self.successes / (self.successes + self.failures)

    def interval(self) -> tuple[float, float]:
        """The 5 % and 95 % quantiles, from draws with a fixed seed."""
        draws = np.random.default_rng(0).beta(self.successes, self.failures, 4 * SAMPLES)
        low, high = np.quantile(draws, (0.05, 0.95))
        return float(low), float(high)


def posterior(
    own: tuple[float, float], others: tuple[float, float], *, prior_mean: float, prior: float, borrowed: float
) -> Posterior:
    """The success rate of a strategy in a domain.

    `own` and `others` are discounted successes and failures in this and in all other domains. The others
    give the prior at most the weight of `borrowed` attempts. Without them it has the weight `prior`.
    """
    successes, failures = others[0] + prior * prior_mean, others[1] + prior * (1.0 - prior_mean)
    total = successes + failures
    weight = min(total, max(borrowed, prior)) / total
    return Posterior(own[0] + weight * successes, own[1] + weight * failures)


def choice_probabilities(
    posteriors: Mapping[str, Posterior], *, best: str, max_exploration: float, rng: np.random.Generator
) -> dict[str, float]:
    """The probability of each strategy. All but `best` have at most `max_exploration` together."""
    names = list(posteriors)
    a, b = np.array([tuple(one) for one in posteriors.values()]).T
    winners = rng.beta(a, b, size=(SAMPLES, len(names))).argmax(axis=1)
    shares = np.bincount(winners, minlength=len(names)) / SAMPLES
    explored = 1.0 - float(shares[names.index(best)])
    scale = min(1.0, max_exploration / explored) if explored > 0.0 else 0.0
    found = {name: scale * float(share) for name, share in zip(names, shares, strict=True)}
    found[best] = 1.0 - scale * explored
    return found
