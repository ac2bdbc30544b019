"""Whether a candidate may replace the champion. Pure.

A candidate is accepted when

1. no task is worse than the champion's beyond a margin: `margin_standard_errors` times the standard
   error of the paired difference, text by text, and never outside `min_margin` .. `max_margin`;
2. at least one task is better of which the new examples say something: its score is higher, or as high and
   the model is surer of the right labels (their mean log-likelihood is higher by more than
   `margin_standard_errors` standard errors of the paired difference). A score moves by whole texts, and on a
   small holdout many improvements are less than that;
3. the thresholds hold. By `ratchet`, a threshold that the champion meets must be met; one that it does
   not meet yet must be met or come no further off than the margin. By `strict`, all must be met.

The difference of two scores on the same texts has the influence of each text on one score minus that on
the other; its standard error is their standard deviation over the root of the number of texts. For
accuracies that is the paired difference of proportions, for the F1 the delta method.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS, GateCheck, Task, Verdict
from karen_learner.settings import GateSettings, ThresholdSettings
from karen_learner.validation.outcomes import Matrix, TaskOutcome
from karen_learner.validation.scoring import SCORE_NAMES, ScoredHoldout

FIRST_MODEL = "first model: deployed with its scores told, not gated"
NO_HOLDOUT = "no holdout texts: add gold examples"
HARM_MARGINS = 2.0
"""A batch is held to have done harm where a task is worse by this many margins: one standard error is
reason enough to keep the champion, not to accuse the examples."""
ROUNDING = 1e-12
"""Below this, a difference comes from the arithmetic and not from the models."""


@dataclass(frozen=True)
class Comparison:
    """One score of the champion and of the candidate on the same texts, and the margin between them."""

    name: str
    before: float
    after: float
    texts: int
    margin: float
    likelihoods: tuple[float, float] | None = None
    is_surer: bool = False

    @property
    def is_worse(self) -> bool:
        return self.after < self.before - self.margin - ROUNDING

    @property
    def is_clearly_worse(self) -> bool:
        return self.after < self.before - HARM_MARGINS * self.margin - ROUNDING

    @property
    def is_better(self) -> bool:
        return self.after > self.before + ROUNDING or (self.is_surer and self.after >= self.before - ROUNDING)

    @property
    def told(self) -> str:
        likelihoods = ""
        if self.likelihoods is not None:
            before, after = self.likelihoods
            likelihoods = f", log-likelihood {before:.3f} -> {after:.3f}"
        return (
            f"{self.name} {self.before:.3f} -> {self.after:.3f} "
            f"on {self.texts} texts (margin {self.margin:.3f}){likelihoods}"
        )


def judge(
    candidate: ScoredHoldout,
    champion: ScoredHoldout | None,
    *,
    gate: GateSettings,
    thresholds: ThresholdSettings,
    taught: Collection[Task] = TASKS,
) -> Verdict:
    """The verdict on a candidate; `champion` must be scored on the same texts, or None if there is none.

    `taught` are the tasks of which the new examples say something: one of them must have got better, for
    the others move by chance alone. The first model is accepted as it is. Without any holdout text a
    later one is rejected. `harmful` when a task got worse by two margins.

    Raises InvalidInput when the two were scored on different texts.
    """
    if champion is None:
        check = GateCheck(name="first_model", passed=True, detail=FIRST_MODEL)
        return Verdict(accepted=True, harmful=False, improved=tuple(candidate.outcomes), checks=(check,))
    _require_same_texts(candidate, champion)
    if not candidate.outcomes:
        check = GateCheck(name="holdout", passed=False, detail=NO_HOLDOUT)
        return Verdict(accepted=False, harmful=False, improved=(), checks=(check,))
    tasks = {
        task: compare_task(task, candidate, champion, gate) for task in TASKS if task in candidate.outcomes
    }
    overall = compare_overall(candidate, champion, gate)
    improved = tuple(task for task, comparison in tasks.items() if comparison.is_better)
    checks = (
        *(_not_worse(task, comparison) for task, comparison in tasks.items()),
        _better(tuple(task for task in improved if task in taught)),
        *_threshold_checks(overall, tasks, thresholds),
    )
    return Verdict(
        accepted=all(check.passed for check in checks),
        harmful=any(comparison.is_clearly_worse for comparison in tasks.values()),
        improved=improved,
        checks=checks,
    )


def _require_same_texts(candidate: ScoredHoldout, champion: ScoredHoldout) -> None:
    mine, theirs = candidate.outcomes, champion.outcomes
    if mine.keys() != theirs.keys() or any(
        not np.array_equal(mine[task].rows, theirs[task].rows) for task in mine
    ):
        raise InvalidInput("candidate and champion were scored on different texts: score both on one holdout")


def compare_task(
    task: Task, candidate: ScoredHoldout, champion: ScoredHoldout, gate: GateSettings
) -> Comparison:
    after, before = candidate.outcomes[task], champion.outcomes[task]
    error = _standard_error(after.influence() - before.influence())
    margin = _margin(error, gate)
    told = _likelihoods(after, before)
    if told is None:
        return Comparison(task, before.score, after.score, after.texts, margin)
    now, then = told
    gain = float((now - then).mean())
    return Comparison(
        task,
        before.score,
        after.score,
        after.texts,
        margin,
        likelihoods=(float(then.mean()), float(now.mean())),
        is_surer=gain > gate.margin_standard_errors * _standard_error(now - then) + ROUNDING,
    )


def _likelihoods(after: TaskOutcome, before: TaskOutcome) -> tuple[Matrix, Matrix] | None:
    """The log-likelihoods of the texts whose right label both models know; None if there is no such text."""
    if after.log_likelihoods is None or before.log_likelihoods is None:
        return None
    both = np.isfinite(after.log_likelihoods) & np.isfinite(before.log_likelihoods)
    return (after.log_likelihoods[both], before.log_likelihoods[both]) if both.any() else None


def compare_overall(candidate: ScoredHoldout, champion: ScoredHoldout, gate: GateSettings) -> Comparison:
    """The comparison of the accuracies over all tasks: a text counts with all its tasks together."""
    size = 1 + max(int(outcome.rows.max()) for outcome in candidate.outcomes.values())
    by_text, judged = np.zeros(size), np.zeros(size, dtype=bool)
    for task, after in candidate.outcomes.items():
        by_text[after.rows] += after.influence() - champion.outcomes[task].influence()
        judged[after.rows] = True
    texts = int(judged.sum())
    error = _standard_error(by_text[judged] * texts / candidate.texts)
    before, after_all = _accuracy(champion), _accuracy(candidate)
    return Comparison("accuracy", before, after_all, texts, _margin(error, gate))


def _accuracy(scored: ScoredHoldout) -> float:
    return sum(outcome.score * outcome.texts for outcome in scored.outcomes.values()) / scored.texts


def _standard_error(influence: Matrix) -> float:
    """Of a mean, from the influence of each text on it. Of a single text nothing can be said: 0."""
    count = len(influence)
    return float(influence.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0


def _margin(error: float, gate: GateSettings) -> float:
    return min(gate.max_margin, max(gate.min_margin, gate.margin_standard_errors * error))


def _not_worse(task: Task, comparison: Comparison) -> GateCheck:
    worse = comparison.is_worse
    detail = f"{comparison.told}: worse" if worse else comparison.told
    return GateCheck(name=f"{task}_not_worse", passed=not worse, detail=detail)


def _better(improved: tuple[Task, ...]) -> GateCheck:
    detail = f"better: {', '.join(improved)}" if improved else "no task got better"
    return GateCheck(name="some_task_better", passed=bool(improved), detail=detail)


def _threshold_checks(
    overall: Comparison, tasks: dict[Task, Comparison], thresholds: ThresholdSettings
) -> Iterator[GateCheck]:
    yield _threshold_check("accuracy", overall, thresholds)
    for task, comparison in tasks.items():
        yield _threshold_check(SCORE_NAMES[task], comparison, thresholds)


def _threshold_check(name: str, comparison: Comparison, thresholds: ThresholdSettings) -> GateCheck:
    threshold: float = getattr(thresholds, name)
    passed, detail = _held(name, comparison, threshold, strict=thresholds.policy == "strict")
    return GateCheck(name=f"{name}_threshold", passed=passed, detail=detail)


def _held(name: str, comparison: Comparison, threshold: float, *, strict: bool) -> tuple[bool, str]:
    before, after = comparison.before, comparison.after
    if after >= threshold:
        return True, f"{name} {after:.3f} meets its threshold of {threshold:.3f}"
    short = f"{name} {after:.3f} is below its threshold of {threshold:.3f}"
    if strict:
        return False, f"{short}, and the policy is strict"
    if before >= threshold:
        return False, f"{short}, which the champion meets with {before:.3f}"
    if comparison.is_worse:
        return False, f"{short} and further off than the champion's {before:.3f}"
    return True, f"{short}, which the champion ({before:.3f}) does not meet yet either"
