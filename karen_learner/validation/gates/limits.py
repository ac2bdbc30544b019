"""The gates `not_worse`, `anchor`, `thresholds`, `agreement` and `budgets`: limits of a candidate.

`not_worse` and `anchor`: nothing is shown worse than the champion and the best version so far. They read gold
only, because feedback is selected by errors. Pipes without training are not tested: they are identical in
both models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from karen_learner.records import TASKS, GateCheck, Task
from karen_learner.settings import Settings
from karen_learner.validation.comparison import (
    NORMAL,
    OVERLAP,
    Comparison,
    changes,
    clustered_variance,
    compare,
    interval_of,
    signs,
    z_of,
)
from karen_learner.validation.evidence import Agreement, Evidence, labels_of
from karen_learner.validation.results import TaskResult, mean_score
from karen_learner.validation.scoring import SCORE_NAMES

LEVEL = 0.05
"""The significance level of a loss that rejects a candidate."""
HARM_LEVEL = NORMAL.cdf(-2.0)
"""The significance level of a loss that is evidence against the new examples: two standard errors."""
COMMON_SHARE = 0.5
"""An anchor with results on a smaller share of the judged gold does not count."""

Pair = tuple[TaskResult, TaskResult]


def not_worse(evidence: Evidence, _settings: Settings) -> Sequence[GateCheck]:
    """A check for each trained task, and one for all labels that the champion knows (Holm, 1979)."""
    compared = compared_tasks(evidence)
    labels = list(_labels(evidence))
    tasks = tuple(_check(f"{task}_not_worse", one) for task, one in compared.items())
    return (*tasks, _labels_check(labels)) if labels else tasks


def compared_tasks(evidence: Evidence) -> Mapping[Task, Comparison]:
    """The comparison of each trained task on the gold texts whose labels the champion knows."""
    return {
        task: compare(task, *pair, evidence.examples, evidence.people)
        for task in TASKS
        if task in evidence.trained and (pair := _known(evidence, task))
    }


def is_harmful(evidence: Evidence) -> bool:
    """Whether a trained task is worse at the level `HARM_LEVEL`."""
    return any(one.p_worse <= HARM_LEVEL for one in compared_tasks(evidence).values())


def _known(evidence: Evidence, task: Task) -> Pair | None:
    """The results on gold texts without unknown labels."""
    pair = evidence.on_gold(task)
    unknown = {label for of, label in evidence.unknown_labels if of == task}
    if pair is None or not unknown:
        return pair
    judged = [evidence.examples[at] for at in pair[0].positions]
    known = np.array([unknown.isdisjoint(labels_of(example, task)) for example in judged])
    return (pair[0].select(known), pair[1].select(known)) if known.any() else None


def _labels(evidence: Evidence) -> Iterator[Comparison]:
    """The comparison of each label that the champion knows, on the gold texts with this label."""
    for task in TASKS:
        pair = _known(evidence, task) if task in evidence.trained else None
        if pair is None:
            continue
        after, before = pair
        for label, positions in _texts_by_label(evidence, task, after).items():
            mask = np.zeros(after.texts, dtype=bool)
            mask[positions] = True
            name = f"{task} {label!r}"
            yield compare(name, after.select(mask), before.select(mask), evidence.examples, evidence.people)


def _texts_by_label(evidence: Evidence, task: Task, result: TaskResult) -> dict[str, list[int]]:
    """For each label the indices of its texts in the result."""
    found: dict[str, list[int]] = {}
    for index, position in enumerate(result.positions):
        for label in sorted(labels_of(evidence.examples[position], task)):
            found.setdefault(label, []).append(index)
    return found


def _labels_check(labels: Sequence[Comparison]) -> GateCheck:
    worse = holm(labels)
    lowest = min(labels, key=lambda one: one.difference)
    if not worse:
        detail = f"none of {len(labels)} labels is worse; largest change: {lowest.summary}"
        return GateCheck(name="labels_not_worse", passed=True, detail=detail)
    return GateCheck(
        name="labels_not_worse", passed=False, detail=f"worse: {'; '.join(one.summary for one in worse)}"
    )


def holm(comparisons: Iterable[Comparison], *, level: float = LEVEL) -> list[Comparison]:
    """The comparisons shown worse. The chance that one of them is not worse is at most `level`.

    Source: Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of
    Statistics 6, 1979.
    """
    ordered = sorted(comparisons, key=lambda one: one.p_worse)
    worse: list[Comparison] = []
    for at, one in enumerate(ordered):
        if one.p_worse > level / (len(ordered) - at):
            break
        worse.append(one)
    return worse


def anchor(evidence: Evidence, _settings: Settings) -> Sequence[GateCheck]:
    """For each trained task a comparison with the best version so far, on gold that both may be judged on.

    So small losses of successive versions do not add up.
    """
    trained = [task for task in TASKS if task in evidence.trained]
    return tuple(_check(f"{task}_anchor", one) for task in trained for one in _anchored(evidence, task))


def _anchored(evidence: Evidence, task: Task) -> Iterator[Comparison]:
    best, pair = evidence.anchors.get(task), evidence.on_gold(task)
    old = best.by_task.get(task) if best is not None else None
    if best is None or old is None or pair is None:
        return
    after = pair[0]
    common = np.isin(after.positions, old.positions)
    if common.sum() < COMMON_SHARE * after.texts:
        return
    after = after.select(common)
    order = np.argsort(old.positions)
    where = order[np.searchsorted(old.positions[order], after.positions)]
    name = f"{task} since {best.version}"
    yield compare(name, after, old.at(where), evidence.examples, evidence.people)


def _check(name: str, one: Comparison) -> GateCheck:
    worse = one.p_worse <= LEVEL
    return GateCheck(
        name=name,
        passed=not worse,
        detail=f"{one.summary}: worse" if worse else one.summary,
        statistic=-z_of(one.p_worse),
        interval=one.interval,
        threshold=-z_of(LEVEL),
    )


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
