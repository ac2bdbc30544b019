"""Paired comparisons of two models on judged texts, with clustered standard errors. Pure.

The influence of a text on the difference of two scores is the difference of its influences on both scores.
For accuracies this is the paired difference of proportions, for the F1 the delta method.

Texts of one person and near-duplicates are dependent. So the variance is clustered in both directions
(Cameron, Gelbach and Miller, *Journal of Business and Economic Statistics* 29, 2011). A p-value is the larger
one of a z test and of an exact sign test of groups of near-duplicates (of single texts: McNemar's test).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from karen_learner.metrics import Z_95, Interval
from karen_learner.records import Example
from karen_learner.validation.results import Matrix, TaskResult

NORMAL = NormalDist()
OVERLAP = 1.2
"""Factor of standard errors: out-of-fold results of one set of texts share training texts.

The standard error of a mean over the texts ignores this (Bayle, Bayle, Janson and Mackey, *Cross-validation
confidence intervals for test error*, NeurIPS 2020). `benchmarks/gates.py` measures the factor.
"""
_SMALLEST = 1e-15


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference of a score on `texts` judged texts: champion `before`, candidate `after`.

    `error` is the standard error of the difference, infinite for a single cluster. `gains` and `losses` count
    the groups of near-duplicates that the candidate answers better and worse.
    """

    name: str
    before: float
    after: float
    texts: int
    error: float
    gains: int
    losses: int

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def p_better(self) -> float:
        """The one-sided p-value against "the candidate is not better"."""
        return p_value(self.difference, self.error, (self.gains, self.losses))

    @property
    def p_worse(self) -> float:
        """The one-sided p-value against "the candidate is not worse"."""
        return p_value(-self.difference, self.error, (self.losses, self.gains))

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the difference; None without a standard error."""
        return interval_of(self.difference, self.error)

    @property
    def summary(self) -> str:
        return f"{self.name} {self.before:.3f} -> {self.after:.3f} on {self.texts} judged texts"


def compare(
    name: str,
    after: TaskResult,
    before: TaskResult,
    examples: Sequence[Example],
    people: Sequence[Sequence[str]],
) -> Comparison:
    """The comparison of two results on the same positions of `examples`, whose people are `people`."""
    groups = [examples[at].group for at in after.positions]
    influence = (after.influence() - before.influence()) / after.texts
    error = OVERLAP * math.sqrt(clustered_variance(influence, groups, [people[at] for at in after.positions]))
    gains, losses = signs(changes(after, before), groups)
    return Comparison(
        name=name,
        before=before.score,
        after=after.score,
        texts=after.texts,
        error=error,
        gains=gains,
        losses=losses,
    )


def changes(after: TaskResult, before: TaskResult) -> Matrix:
    """By how much each text is answered better: (texts,). Entities: the number of errors avoided."""
    if after.task != "entities":
        return np.asarray(after.values - before.values, dtype=np.float64)
    return np.asarray((before.values[:, 1:] - after.values[:, 1:]).sum(axis=1), dtype=np.float64)


def p_value(difference: float, error: float, *signs: tuple[int, int]) -> float:
    """The largest one-sided p-value: of the z test, and of the exact sign test of each pair of counts."""
    exact = [sign_test(gains, losses) for gains, losses in signs]
    if error > 0.0:
        return max([NORMAL.cdf(-difference / error), *exact])
    return max([0.0 if difference > 0.0 else 1.0, *exact])


def sign_test(gains: int, losses: int) -> float:
    """The probability of at least `gains` heads in `gains + losses` tosses of a fair coin."""
    tosses = gains + losses
    if gains <= losses:
        return 1.0 if gains == 0 else _upper_tail(gains, tosses)
    return _upper_tail(gains, tosses)


def _upper_tail(heads: int, tosses: int) -> float:
    term = math.exp(
        math.lgamma(tosses + 1)
        - math.lgamma(heads + 1)
        - math.lgamma(tosses - heads + 1)
        - tosses * math.log(2.0)
    )
    total = 0.0
    for count in range(heads, tosses + 1):
        total += term
        term *= (tosses - count) / (count + 1)
    return min(1.0, total)


def signs(changed: Matrix, clusters: Sequence[Hashable]) -> tuple[int, int]:
    """The numbers of clusters with a positive and with a negative sum."""
    if not len(changed):
        return 0, 0
    sums = np.bincount(_codes(clusters), weights=changed)
    return int((sums > 1e-12).sum()), int((sums < -1e-12).sum())


def z_of(p: float) -> float:
    """The standard normal quantile that a one-sided p-value corresponds to."""
    return -NORMAL.inv_cdf(min(max(p, _SMALLEST), 1.0 - _SMALLEST))


def interval_of(difference: float, error: float) -> Interval | None:
    """The 95 % interval of a normal estimate; None if `error` is infinite."""
    if not math.isfinite(error):
        return None
    return (difference - Z_95 * error, difference + Z_95 * error)


def clustered_variance(parts: Matrix, groups: Sequence[Hashable], people: Sequence[Sequence[str]]) -> float:
    """The variance of a sum, from the centred part (texts,) of each text, clustered by group and by person.

    A text without people is its own cluster. A text of several people belongs to the cluster of each. The
    result is at least the variance of either clustering. Infinite if all texts are one cluster.
    """
    owners = [people_of or (("", at),) for at, people_of in enumerate(people)]
    by_group, number_of_groups = _within(parts, [(group,) for group in groups])
    by_person, number_of_people = _within(parts, owners)
    smallest = min(number_of_groups, number_of_people)
    if smallest < 2:
        return math.inf
    both, _ = _within(
        parts, [[(group, owner) for owner in owning] for group, owning in zip(groups, owners, strict=True)]
    )
    total = max(by_group + by_person - both, by_group, by_person)
    return total * smallest / (smallest - 1)


def _within(parts: Matrix, clusters: Sequence[Iterable[Hashable]]) -> tuple[float, int]:
    """The sum of products of all pairs of texts in one cluster, and the number of clusters."""
    members = [(at, cluster) for at, found in enumerate(clusters) for cluster in found]
    where = np.array([at for at, _ in members], dtype=np.int64)
    codes = _codes([cluster for _, cluster in members])
    sums = np.bincount(codes, weights=parts[where])
    repeated = np.bincount(where, minlength=len(parts)) - 1.0  # a pair of a text with itself counts once
    return float((sums**2).sum() - (repeated * parts**2).sum()), len(sums)


def _codes(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
