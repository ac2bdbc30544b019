"""The gate `improved`: a taught task is better at the significance level of the decision.

The level is divided among the taught tasks and the kinds of tests (Bonferroni): accuracy on gold,
log-likelihood on gold, feedback. So the chance of a deployment without a gain is at most the level.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from karen_learner.metrics import Interval
from karen_learner.records import TASKS, GateCheck, Task
from karen_learner.settings import Settings
from karen_learner.validation.comparison import (
    NORMAL,
    OVERLAP,
    Comparison,
    FeedbackComparison,
    clustered_variance,
    compare,
    compare_feedback,
    interval_of,
    p_value,
    z_of,
)
from karen_learner.validation.evidence import Evidence, labels_of
from karen_learner.validation.few_people import FEW_PEOPLE, FewPeople, compare_few_people
from karen_learner.validation.results import Matrix, TaskResult

LIKELIHOOD_SHARE = 0.15
FEEDBACK_SHARE = 0.15
"""Shares of the level for log-likelihood and feedback where they are known; accuracy on gold has the rest.

With 0.35 for the log-likelihood, `benchmarks/gates.py` deploys a candidate without a gain in 17.5 % of the
lives on 300 texts.
"""
LIKELIHOOD_LEVEL = NORMAL.cdf(-3.0)
"""The largest level for the log-likelihood: z above 3."""
FEEDBACK_GUARD = NORMAL.cdf(-1.0)
"""Feedback counts only if gold is not worse at this level: by less than one standard error."""
MIN_LIKELIHOODS = 100
"""Texts below which the distribution of a mean log-likelihood is too far from a normal one."""
POWER = 0.8
"""The power for which `missing` counts further texts."""
ROUNDING = 1e-12

Kind = Literal["gold", "likelihood", "feedback"]


@dataclass(frozen=True, kw_only=True)
class GainTest:
    """One test for a gain of a task, with its p-value and its significance level."""

    task: Task
    kind: Kind
    difference: float
    texts: int
    p: float
    level: float
    interval: Interval | None
    summary: str

    @property
    def passed(self) -> bool:
        return self.level > 0.0 and self.p <= self.level

    @property
    def distance(self) -> float:
        """The statistic less its threshold, in standard errors."""
        return z_of(self.p) - z_of(self.level)

    @property
    def missing_texts(self) -> int:
        """Further texts until this difference is shown with a power of 80 %, to two digits; needs a gain."""
        needed = (z_of(self.level) + NORMAL.inv_cdf(POWER)) / max(z_of(self.p), 1e-3)
        return _two_digits(max(1.0, self.texts * (needed**2 - 1.0)))


def improved(evidence: Evidence, _settings: Settings) -> Sequence[GateCheck]:
    """One check: a taught task is shown better, or all new examples teach unknown labels."""
    if not evidence.taught_labels:
        detail = "a forced training without new examples needs no gain"
        return (GateCheck(name="improved", passed=True, detail=detail),)
    if evidence.unknown_labels:  # each new example has such a label
        labels = ", ".join(sorted(repr(label) for _, label in evidence.unknown_labels))
        return (GateCheck(name="improved", passed=True, detail=f"new labels need no gain: {labels}"),)
    tried = attempts(evidence)
    if not tried:
        return (GateCheck(name="improved", passed=False, detail=_reason(evidence)),)
    best = max(tried, key=lambda one: one.distance)
    return (
        GateCheck(
            name="improved",
            passed=best.passed,
            detail=f"{'better' if best.passed else 'no gain is shown'}: {best.summary} "
            f"(p {best.p:.2g}, at most {best.level:.2g} is needed)",
            statistic=z_of(best.p),
            interval=best.interval,
            threshold=z_of(best.level),
        ),
    )


def _reason(evidence: Evidence) -> str:
    if evidence.alpha == 0.0:
        return "no gain can be shown: there are no new examples since the last decision"
    return "no gain can be shown: no taught task has judged gold texts"


def attempts(evidence: Evidence) -> tuple[GainTest, ...]:
    """All tests for a gain of a taught task. Empty at a significance level of 0."""
    if evidence.alpha == 0.0:
        return ()
    pairs = {
        task: pair
        for task in TASKS
        if task in evidence.taught and task in evidence.trained and (pair := evidence.on_gold(task))
    }
    level = evidence.alpha / max(1, len(pairs))
    return tuple(one for task, pair in pairs.items() for one in _of_task(evidence, task, *pair, level))


def tasks_with_gain(evidence: Evidence) -> frozenset[Task]:
    """The taught tasks that are shown better, or that gain labels which the champion does not know."""
    better = {one.task for one in attempts(evidence) if one.passed}
    return frozenset(better | ({task for task, _ in evidence.unknown_labels} & evidence.taught))


def _of_task(
    evidence: Evidence, task: Task, after: TaskResult, before: TaskResult, level: float
) -> tuple[GainTest, ...]:
    gold = compare(task, after, before, evidence.examples, evidence.people)
    likelihood = _likelihood(evidence, gold, after, before, level * LIKELIHOOD_SHARE)
    feedback = compare_few_people(evidence, task) or compare_feedback(
        evidence, task, accuracy=before.score, gold=before.texts
    )
    rest = 1.0 - LIKELIHOOD_SHARE * (likelihood is not None) - FEEDBACK_SHARE * (feedback is not None)
    found = [_on_gold(task, gold, level * rest)]
    if likelihood is not None and gold.difference >= -ROUNDING:
        found.append(likelihood)
    if feedback is not None and gold.p_worse > FEEDBACK_GUARD:
        found.append(_on_feedback(task, feedback, level * FEEDBACK_SHARE))
    return tuple(found)


def _on_gold(task: Task, gold: Comparison, level: float) -> GainTest:
    return GainTest(
        task=task,
        kind="gold",
        difference=gold.difference,
        texts=gold.texts,
        p=gold.p_better,
        level=level,
        interval=gold.interval,
        summary=gold.summary,
    )


def _on_feedback(task: Task, feedback: FeedbackComparison | FewPeople, level: float) -> GainTest:
    return GainTest(
        task=task,
        kind="feedback",
        difference=feedback.gain - feedback.allowance,
        texts=feedback.texts,
        p=feedback.p_better,
        level=level,
        interval=feedback.interval,
        summary=f"{task} {feedback.gain:+.3f} on {feedback.texts} feedback texts of {feedback.people} people",
    )


def _likelihood(
    evidence: Evidence, gold: Comparison, after: TaskResult, before: TaskResult, level: float
) -> GainTest | None:
    """The test of the mean log-likelihood of gold labels that both models know; None for too few texts."""
    if after.log_likelihoods is None or before.log_likelihoods is None:
        return None
    both = np.isfinite(after.log_likelihoods) & np.isfinite(before.log_likelihoods)
    if both.sum() < MIN_LIKELIHOODS:
        return None
    then, now = before.log_likelihoods[both], after.log_likelihoods[both]
    gain = float((now - then).mean())
    error = clustered_error(evidence, after.positions[both], now - then)
    summary = f"{gold.summary}, log-likelihood {then.mean():.3f} -> {now.mean():.3f}"
    return GainTest(
        task=after.task,
        kind="likelihood",
        difference=gain,
        texts=len(now),
        p=p_value(gain, error),
        level=min(level, LIKELIHOOD_LEVEL),
        interval=interval_of(gain, error),
        summary=summary,
    )


def clustered_error(evidence: Evidence, positions: NDArray[np.int64], values: Matrix) -> float:
    """The standard error of the mean of `values` (texts,) on the judged texts at `positions`."""
    groups = [evidence.examples[at].group for at in positions]
    people = [evidence.people[at] for at in positions]
    variance = clustered_variance((values - values.mean()) / len(values), groups, people)
    return OVERLAP * math.sqrt(variance)


def missing(evidence: Evidence) -> str:
    """The texts that would decide a candidate that is too close, as a sentence."""
    if evidence.alpha == 0.0:
        return "new examples are needed"
    tried = attempts(evidence)
    if not tried:
        return f"gold examples with {' or '.join(sorted(evidence.taught)) or 'labels'} are needed"
    tested = [one for one in tried if one.kind != "likelihood"]
    with_gain = [one for one in tested if one.difference > 0.0]
    if not with_gain:
        nearest = max(tested, key=lambda one: one.distance)
        return (
            f"the measured gain of {nearest.task} is not positive ({nearest.difference:+.3f})"
            f"{_few_people(evidence)}"
        )
    best = min(with_gain, key=lambda one: one.missing_texts)
    if best.p >= 0.5:
        return f"the judged texts of {best.task} are too few or too similar: more labelled texts are needed"
    number = f"about {best.missing_texts:,} more"
    if best.kind == "feedback":
        return f"{number} texts with feedback of further people would decide it"
    label = _rarest_label(evidence, best.task)
    return f"{number} labelled texts{f' of {label!r}' if label else ''} would decide it"


def _few_people(evidence: Evidence) -> str:
    """Advice if a few people gave all judged feedback: one person alone shows no gain."""
    pairs = zip(evidence.examples, evidence.people, strict=True)
    people = {one for example, owners in pairs if not example.is_gold for one in owners}
    if not 0 < len(people) < FEW_PEOPLE:
        return ""
    count = "one person" if len(people) == 1 else f"{len(people)} people"
    return (
        f"; its feedback is of {count}, and each text is judged without the texts of its person: the same "
        "corrections by a second person, feedback of further people, or these texts as gold would decide it"
    )


def _rarest_label(evidence: Evidence, task: Task) -> str | None:
    """The taught label with the fewest judged gold texts."""
    gold = [example for example in evidence.examples if example.is_gold]
    counts = Counter(label for example in gold for label in labels_of(example, task))
    taught = sorted(label for of, label in evidence.taught_labels if of == task)
    return min(taught, key=lambda label: counts[label], default=None)


def _two_digits(number: float) -> int:
    unit = int(10 ** max(0, math.floor(math.log10(number)) - 1))
    return math.ceil(number / unit) * unit
