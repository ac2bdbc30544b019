"""Paired comparisons of two models on judged texts, with clustered standard errors. Pure.

The influence of a text on the difference of two scores is the difference of its influences on both scores.
For accuracies this is the paired difference of proportions, for the F1 the delta method.

Texts of one person and near-duplicates are dependent. So the variance is clustered in both directions
(Cameron, Gelbach and Miller, *Journal of Business and Economic Statistics* 29, 2011). A p-value is the larger
one of a z test and of an exact sign test of groups of near-duplicates (of single texts: McNemar's test).

Feedback is selected by the errors of the champion. Corrections exist only where the champion was wrong. There
a candidate without a gain looks better: its errors are on other texts (regression to the mean). Three rules
correct for this:

- A changed answer that is still wrong counts as a loss, because a random change is seldom right.
- With `MIN_CONFIRMATIONS` confirmed texts the comparison is post-stratified (Holt and Smith, *Journal of the
  Royal Statistical Society A* 142, 1979): the total weight of corrected texts is the champion's error rate on
  gold, that of confirmed texts its accuracy.
- With fewer, only corrected texts of taught labels count, and the gain must be larger than `ALLOWANCE`.

A person has at most the share `PERSON_SHARE` of the weight of either kind.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from karen_learner.metrics import Z_95, Interval, binomial_tail
from karen_learner.records import Example, Task
from karen_learner.validation.evidence import Evidence, labels_of
from karen_learner.validation.results import Matrix, TaskResult

NORMAL = NormalDist()
OVERLAP = 1.2
"""Factor of standard errors: out-of-fold results of one set of texts share training texts.

The standard error of a mean over the texts ignores this (Bayle, Bayle, Janson and Mackey, *Cross-validation
confidence intervals for test error*, NeurIPS 2020). `benchmarks/gates.py` measures the factor.
"""
MIN_CONFIRMATIONS = 30
ALLOWANCE = 0.05
"""The gain on corrected texts that regression to the mean may cause; `benchmarks/gates.py` measures it."""
PERSON_SHARE = 0.05

Owners = tuple[str, ...]
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
        return 1.0 if gains == 0 else binomial_tail(gains, tosses)
    return binomial_tail(gains, tosses)


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


@dataclass(frozen=True, kw_only=True)
class FeedbackComparison:
    """The weighted mean `gain` on `texts` feedback texts of `people` people, in -1..1.

    `error` is its standard error. `signs` are the numbers of people, and of groups of near-duplicates, with
    a gain and with a loss. The gain must be larger than `allowance`.
    """

    texts: int
    people: int
    gain: float
    error: float
    signs: tuple[tuple[int, int], tuple[int, int]]
    allowance: float

    @property
    def p_better(self) -> float:
        """The one-sided p-value against "the gain is at most the allowance"."""
        return p_value(self.gain - self.allowance, self.error, *self.signs)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the gain; None without a standard error."""
        return interval_of(self.gain, self.error)


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """Feedback texts of one task: their change, group and people, and the total weight of their kind."""

    change: Matrix
    groups: tuple[str, ...]
    people: tuple[Owners, ...]
    share: float

    def weights(self) -> Matrix:
        return self.share * capped_weights(self.people)

    def mean(self) -> float:
        return float(capped_weights(self.people) @ self.change)


def compare_feedback(
    evidence: Evidence, task: Task, *, accuracy: float, gold: int
) -> FeedbackComparison | None:
    """The comparison of a task on feedback; None without texts or champion.

    `accuracy` is the score of the champion on `gold` gold texts.
    """
    if evidence.champion is None:
        return None
    after, before = evidence.candidate.by_task[task], evidence.champion.by_task[task]
    judged = [evidence.examples[at] for at in after.positions]
    corrected = [example.source == "correction" for example in judged]
    confirmed = [example.source == "rating" for example in judged]
    change = _changes(after, before)
    if sum(confirmed) < MIN_CONFIRMATIONS:
        taught = [_is_taught(evidence, example, task) for example in judged]
        only = _texts(evidence, after, change, np.logical_and(corrected, taught), share=1.0)
        return _combined([only], allowance=ALLOWANCE, of_accuracy=0.0)
    kinds = [
        _texts(evidence, after, change, np.array(corrected), share=1.0 - accuracy),
        _texts(evidence, after, change, np.array(confirmed), share=accuracy),
    ]
    return _combined(kinds, allowance=0.0, of_accuracy=accuracy * (1.0 - accuracy) / gold)


def _is_taught(evidence: Evidence, example: Example, task: Task) -> bool:
    return any((task, label) in evidence.taught_labels for label in labels_of(example, task))


def _texts(
    evidence: Evidence, result: TaskResult, change: Matrix, mask: NDArray[np.bool_], *, share: float
) -> _Texts:
    positions = result.positions[mask]
    examples = [evidence.examples[at] for at in positions]
    owners = [evidence.people[at] for at in positions]
    return _Texts(
        change=change[mask],
        groups=tuple(example.group for example in examples),
        people=tuple(of or (example.example_id,) for of, example in zip(owners, examples, strict=True)),
        share=share,
    )


def _combined(kinds: Sequence[_Texts], *, allowance: float, of_accuracy: float) -> FeedbackComparison | None:
    """The comparison on all kinds. `of_accuracy` is the variance of their shares."""
    known = [kind for kind in kinds if len(kind.change)]
    if not known:
        return None
    parts = [(kind, kind.weights(), kind.mean()) for kind in known]
    products = np.concatenate([weights * kind.change for kind, weights, _ in parts])
    centred = np.concatenate([weights * (kind.change - mean) for kind, weights, mean in parts])
    groups = [group for kind in known for group in kind.groups]
    people = [owners for kind in known for owners in kind.people]
    spread = parts[0][2] - parts[-1][2]
    variance = clustered_variance(centred, groups, people) + spread**2 * of_accuracy
    return FeedbackComparison(
        texts=len(groups),
        people=len({person for owners in people for person in owners}),
        gain=float(products.sum()),
        error=OVERLAP * math.sqrt(variance),
        signs=(_signs_of_people(products, people), signs(products, groups)),
        allowance=allowance,
    )


def _changes(after: TaskResult, before: TaskResult) -> Matrix:
    """The change of each text: 1 for the better, -1 for the worse or another wrong answer, else 0."""
    change = np.sign(changes(after, before))
    if after.answers and before.answers:
        other = np.array([now != then for now, then in zip(after.answers, before.answers, strict=True)])
        change[other & (after.values == 0.0) & (before.values == 0.0)] = -1.0
    return np.asarray(change, dtype=np.float64)


def _signs_of_people(products: Matrix, people: Sequence[Owners]) -> tuple[int, int]:
    members = [(at, person) for at, owners in enumerate(people) for person in owners]
    return signs(products[[at for at, _ in members]], [person for _, person in members])


def capped_weights(people: Sequence[Owners]) -> Matrix:
    """Weights (texts,) that sum to 1, with at most the share `PERSON_SHARE` for each person.

    With fewer than `1 / PERSON_SHARE` people, all people weigh the same. A text of several people has the
    mean of their weights.
    """
    texts = Counter(person for owners in people for person in owners)
    counts = np.array(sorted(texts.values()), dtype=np.float64)
    cap = _cap(counts, max(PERSON_SHARE, 1.0 / len(counts)))
    weights = np.array(
        [sum(min(1.0, cap / texts[person]) for person in owners) / len(owners) for owners in people]
    )
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _cap(counts: Matrix, share: float) -> float:
    """The largest number of texts that a person may count for, from the sorted `counts` of people.

    With the cap c, the share of a person with at least c texts is c / sum(min(count, c)).
    """
    below = np.concatenate([[0.0], np.cumsum(counts)])
    for position, count in enumerate(counts):
        capped = len(counts) - position
        if share * (below[position] + capped * count) < count:  # this person and all with more are capped
            rest = 1.0 - share * capped
            return float(share * below[position] / rest) if rest > 1e-9 else float(counts[0])
    return float(counts[-1])
