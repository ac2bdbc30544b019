"""The gates `thresholds`, `agreement` and `budgets`: limits of scores, of agreement, of size and of time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from karen_learner.records import TASKS, GateCheck, Task
from karen_learner.settings import Settings
from karen_learner.validation.comparison import (
    OVERLAP,
    Comparison,
    changes,
    clustered_variance,
    compare,
    interval_of,
    signs,
)
from karen_learner.validation.evidence import Agreement, Evidence
from karen_learner.validation.gates.unharmed import LEVEL
from karen_learner.validation.results import TaskResult, mean_score
from karen_learner.validation.scoring import SCORE_NAMES

AGREEMENT_ERRORS = 2.0
"""Tolerated loss of agreement in standard errors."""


def thresholds(evidence: Evidence, settings: Settings) -> Sequence[GateCheck]:
    """A check for each threshold of a score on gold, by `thresholds.policy`.

    `strict`: all must be met. `ratchet`: each threshold that the champion meets must be met; below another
    one the score must not be shown worse.
    """
    pairs = {task: pair for task in TASKS if (pair := evidence.on_gold(task))}
    compared = {
        SCORE_NAMES[task]: compare(task, *pair, evidence.examples, evidence.people)
        for task, pair in pairs.items()
    }
    overall = {"accuracy": compare_overall(evidence, pairs)} if pairs else {}
    strict = settings.thresholds.policy == "strict"
    return tuple(
        _threshold(name, one, getattr(settings.thresholds, name), strict=strict)
        for name, one in (overall | compared).items()
    )


def compare_overall(evidence: Evidence, pairs: dict[Task, tuple[TaskResult, TaskResult]]) -> Comparison:
    """The comparison of the mean over all tasks. The unit is a text with all its tasks."""
    judgements = sum(after.texts for after, _ in pairs.values())
    influence, changed = np.zeros(len(evidence.examples)), np.zeros(len(evidence.examples))
    judged = np.zeros(len(evidence.examples), dtype=bool)
    for after, before in pairs.values():
        influence[after.positions] += (after.influence() - before.influence()) / judgements
        changed[after.positions] += changes(after, before)
        judged[after.positions] = True
    positions = np.flatnonzero(judged)
    groups = [evidence.examples[at].group for at in positions]
    people = [evidence.people[at] for at in positions]
    gains, losses = signs(changed[positions], groups)
    return Comparison(
        name="accuracy",
        before=mean_score(before for _, before in pairs.values()) or 0.0,
        after=mean_score(after for after, _ in pairs.values()) or 0.0,
        texts=len(positions),
        error=OVERLAP * math.sqrt(clustered_variance(influence[positions], groups, people)),
        gains=gains,
        losses=losses,
    )


def _threshold(name: str, one: Comparison, threshold: float, *, strict: bool) -> GateCheck:
    passed, detail = _held(name, one, threshold, strict=strict)
    return GateCheck(
        name=f"{name}_threshold", passed=passed, detail=detail, statistic=one.after, threshold=threshold
    )


def _held(name: str, one: Comparison, threshold: float, *, strict: bool) -> tuple[bool, str]:
    if one.after >= threshold:
        return True, f"{name} {one.after:.3f} meets its threshold of {threshold:.3f}"
    short = f"{name} {one.after:.3f} is below its threshold of {threshold:.3f}"
    if strict:
        return False, f"{short}, and the policy is strict"
    if one.before >= threshold:
        return False, f"{short}, which the champion meets with {one.before:.3f}"
    if one.p_worse <= LEVEL:
        return False, f"{short} and worse than the champion's {one.before:.3f}"
    return True, f"{short}, which the champion ({one.before:.3f}) misses too"


def agreement(evidence: Evidence, _settings: Settings) -> Sequence[GateCheck]:
    """The candidate agrees with its shadows as often as the champion, less two standard errors."""
    measured = evidence.agreement
    return () if measured is None else (agreement_check(measured, of="recent texts"),)


def agreement_check(measured: Agreement, *, of: str) -> GateCheck:
    """The check of an agreement with shadows on texts of a kind."""
    rates = measured.candidate, measured.champion
    error = math.sqrt(sum(rate * (1.0 - rate) for rate in rates) / measured.texts)
    threshold = measured.champion - AGREEMENT_ERRORS * error
    passed = measured.candidate >= threshold
    detail = (
        f"agreement with the shadows {measured.champion:.3f} -> {measured.candidate:.3f} "
        f"on {measured.texts} {of}"
    )
    return GateCheck(
        name="agreement",
        passed=passed,
        detail=detail if passed else f"{detail}: lower",
        statistic=measured.candidate,
        interval=interval_of(measured.candidate - measured.champion, error),
        threshold=threshold,
    )


def budgets(evidence: Evidence, settings: Settings) -> Sequence[GateCheck]:
    """A check of each budget above 0: `gate.max_model_bytes` and `gate.max_ms_per_text`."""
    size, limit = settings.gate.max_model_bytes, settings.gate.max_ms_per_text
    checks: list[GateCheck] = []
    if size:
        checks.append(_budget("model_bytes", evidence.model_bytes, size, "bytes of the saved model"))
    if limit:
        checks.append(_budget("ms_per_text", evidence.ms_per_text, limit, "milliseconds for a text"))
    return tuple(checks)


def _budget(name: str, value: float | None, limit: float, unit: str) -> GateCheck:
    if value is None:
        return GateCheck(name=name, passed=False, detail=f"{unit} are not measured", threshold=limit)
    detail = f"{value:,.6g} {unit}, at most {limit:,.6g} are allowed"
    return GateCheck(name=name, passed=value <= limit, detail=detail, statistic=value, threshold=limit)
