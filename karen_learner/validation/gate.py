"""The gate: the rule that accepts or rejects a candidate. Pure; `ModelValidator` runs it in a thread.

A candidate is accepted if

1. no task is worse than the champion's beyond a margin. The margin is `margin_standard_errors` times the
   standard error of the paired difference of the texts, bounded by `min_margin` and `max_margin`;
2. at least one task of the new examples is better. Its score is higher; or its score is equal, and the mean
   log-likelihood of the gold labels is higher by more than `margin_standard_errors` standard errors of the
   paired difference. (A score changes by whole texts; many improvements on a small holdout are smaller.)
3. the thresholds hold. `strict`: all must be met. `ratchet`: each threshold that the champion meets must be
   met. Below another one, the score must not be worse than the champion's beyond the margin.

The influence of a text on the difference of two scores is the difference of its influences on both scores.
The standard error is the standard deviation of these influences over the root of the number of texts. For
accuracies this is the paired difference of proportions, for the F1 the delta method.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from asyncio_extras import call_in_executor

from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS, Example, GateCheck, Task, Verdict
from karen_learner.settings import GateSettings, Settings, ThresholdSettings
from karen_learner.validation.results import Matrix, Prediction, TaskResult, mean_score
from karen_learner.validation.scoring import SCORE_NAMES, ScoredTexts, score

FIRST_MODEL = "first model: deployed without a gate"
NO_HOLDOUT = "no holdout texts: add gold examples"
HARM_MARGINS = 2.0
"""A batch is harmful if a task is worse by this many margins. One margin suffices to keep the champion, but
is no sufficient evidence against the examples."""
QUARANTINE_AFTER = 2
"""Harmful rejections after which an example is quarantined."""
ROUNDING = 1e-12
"""Smaller differences are rounding errors."""


class ModelValidator:
    """Scores and verdicts by the current thresholds and margins of `settings`; a `Gate`.

    Computes in a thread: 3,000 texts take some tenths of a second.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def score(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> ScoredTexts:
        """The scores of one model, from one prediction for each example. See `scoring.score`."""
        thresholds = self._settings.thresholds.model_copy()
        scored: ScoredTexts = await call_in_executor(score, examples, predictions, thresholds=thresholds)
        return scored

    async def judge(
        self,
        candidate: ScoredTexts,
        champion: ScoredTexts | None,
        *,
        taught: Collection[Task] = TASKS,
    ) -> Verdict:
        """The verdict on a candidate. See `judge`."""
        gate, thresholds = self._settings.gate.model_copy(), self._settings.thresholds.model_copy()
        verdict: Verdict = await call_in_executor(
            judge, candidate, champion, gate=gate, thresholds=thresholds, taught=taught
        )
        return verdict


@dataclass(frozen=True)
class Comparison:
    """One score of champion (`before`) and candidate (`after`) on the same texts, and its margin."""

    name: str
    before: float
    after: float
    texts: int
    margin: float
    likelihoods: tuple[float, float] | None = None
    is_likelier: bool = False

    @property
    def is_worse(self) -> bool:
        return self.after < self.before - self.margin - ROUNDING

    @property
    def is_clearly_worse(self) -> bool:
        return self.after < self.before - HARM_MARGINS * self.margin - ROUNDING

    @property
    def is_better(self) -> bool:
        return self.after > self.before + ROUNDING or (
            self.is_likelier and self.after >= self.before - ROUNDING
        )

    @property
    def summary(self) -> str:
        likelihoods = ""
        if self.likelihoods is not None:
            before, after = self.likelihoods
            likelihoods = f", log-likelihood {before:.3f} -> {after:.3f}"
        return (
            f"{self.name} {self.before:.3f} -> {self.after:.3f} "
            f"on {self.texts} texts (margin {self.margin:.3f}){likelihoods}"
        )


def judge(
    candidate: ScoredTexts,
    champion: ScoredTexts | None,
    *,
    gate: GateSettings,
    thresholds: ThresholdSettings,
    taught: Collection[Task] = TASKS,
) -> Verdict:
    """The verdict on a candidate, by the rule above. Both must be scored on the same texts.

    `taught` are the tasks of the new examples: one of them must improve, because others move by chance alone.
    Without a champion the candidate is accepted, without holdout texts a later one is rejected. `harmful`: a
    task is worse by two margins. Raises InvalidInput for scores on different texts.
    """
    if champion is None:
        check = GateCheck(name="first_model", passed=True, detail=FIRST_MODEL)
        return Verdict(accepted=True, harmful=False, improved=tuple(candidate.by_task), checks=(check,))
    _require_same_texts(candidate, champion)
    if not candidate.by_task:
        check = GateCheck(name="holdout", passed=False, detail=NO_HOLDOUT)
        return Verdict(accepted=False, harmful=False, improved=(), checks=(check,))
    tasks = {
        task: compare_task(task, candidate, champion, gate) for task in TASKS if task in candidate.by_task
    }
    compared = {"accuracy": compare_overall(candidate, champion, gate)}
    compared |= {SCORE_NAMES[task]: comparison for task, comparison in tasks.items()}
    improved = tuple(task for task, comparison in tasks.items() if comparison.is_better)
    checks = (
        *(_not_worse(task, comparison) for task, comparison in tasks.items()),
        _better(tuple(task for task in improved if task in taught)),
        *(_threshold_check(name, comparison, thresholds) for name, comparison in compared.items()),
    )
    return Verdict(
        accepted=all(check.passed for check in checks),
        harmful=any(comparison.is_clearly_worse for comparison in tasks.values()),
        improved=improved,
        checks=checks,
    )


def _require_same_texts(candidate: ScoredTexts, champion: ScoredTexts) -> None:
    new, old = candidate.by_task, champion.by_task
    if new.keys() != old.keys() or any(
        not np.array_equal(new[task].positions, old[task].positions) for task in new
    ):
        raise InvalidInput("candidate and champion were scored on different texts: score both on one holdout")


def compare_task(task: Task, candidate: ScoredTexts, champion: ScoredTexts, gate: GateSettings) -> Comparison:
    """The comparison of one task, with mean log-likelihoods if both models give them."""
    after, before = candidate.by_task[task], champion.by_task[task]
    margin = _margin(_standard_error(after.influence() - before.influence()), gate)
    both = _likelihoods(after, before)
    if both is None:
        return Comparison(task, before.score, after.score, after.texts, margin)
    now, then = both
    gain = float((now - then).mean())
    return Comparison(
        task,
        before.score,
        after.score,
        after.texts,
        margin,
        likelihoods=(float(then.mean()), float(now.mean())),
        is_likelier=gain > gate.margin_standard_errors * _standard_error(now - then) + ROUNDING,
    )


def _likelihoods(after: TaskResult, before: TaskResult) -> tuple[Matrix, Matrix] | None:
    """Log-likelihoods of the texts with a gold label that both models have; None without such texts."""
    if after.log_likelihoods is None or before.log_likelihoods is None:
        return None
    both = np.isfinite(after.log_likelihoods) & np.isfinite(before.log_likelihoods)
    return (after.log_likelihoods[both], before.log_likelihoods[both]) if both.any() else None


def compare_overall(candidate: ScoredTexts, champion: ScoredTexts, gate: GateSettings) -> Comparison:
    """The comparison of the mean over all tasks. The unit is a text with all its tasks."""
    size = 1 + max(int(result.positions.max()) for result in candidate.by_task.values())
    by_text, judged = np.zeros(size), np.zeros(size, dtype=bool)
    for task, result in candidate.by_task.items():
        by_text[result.positions] += result.influence() - champion.by_task[task].influence()
        judged[result.positions] = True
    texts = int(judged.sum())
    error = _standard_error(by_text[judged] * texts / candidate.texts)
    before, after = (mean_score(scored.by_task.values()) or 0.0 for scored in (champion, candidate))
    return Comparison("accuracy", before, after, texts, _margin(error, gate))


def _standard_error(influence: Matrix) -> float:
    """The standard error of a mean, from the influence of each text on it; 0 for a single text."""
    count = len(influence)
    return float(influence.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0


def _margin(error: float, gate: GateSettings) -> float:
    return min(gate.max_margin, max(gate.min_margin, gate.margin_standard_errors * error))


def _not_worse(task: Task, comparison: Comparison) -> GateCheck:
    worse = comparison.is_worse
    detail = f"{comparison.summary}: worse" if worse else comparison.summary
    return GateCheck(name=f"{task}_not_worse", passed=not worse, detail=detail)


def _better(improved: tuple[Task, ...]) -> GateCheck:
    detail = f"improved: {', '.join(improved)}" if improved else "no task improved"
    return GateCheck(name="some_task_better", passed=bool(improved), detail=detail)


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
        return False, f"{short} and worse than the champion's {before:.3f}"
    return True, f"{short}, which the champion ({before:.3f}) misses too"
