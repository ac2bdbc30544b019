"""A candidate that is too close to call, and probably better: it serves until the next decision. Pure.

The risk bounds the chance that a candidate without a gain becomes the champion. With few texts, a gain takes
many cycles until it is shown at such a level. Meanwhile the better model need not wait: its version is
*provisional*. It is no champion and no anchor. It serves until a candidate is accepted or likely better, too.
"""

from __future__ import annotations

import numpy as np

from karen_learner.records import CATEGORY_TASKS, TASKS, GateCheck, Task
from karen_learner.validation.comparison import Comparison, p_value, z_of
from karen_learner.validation.evidence import Evidence
from karen_learner.validation.gates.improved import MIN_LIKELIHOODS, ROUNDING, clustered_error
from karen_learner.validation.gates.limits import compare_overall
from karen_learner.validation.results import TaskResult

LIKELY = 0.10
"""The largest p-value of a gain over all taught tasks for which a candidate serves."""

Pairs = dict[Task, tuple[TaskResult, TaskResult]]


def likely_better(evidence: Evidence) -> GateCheck | None:
    """The check of a candidate that is probably better on gold; None if it is not, or cannot be known.

    Tested are the mean accuracy of all taught tasks and, if it is not lower, the log-likelihood of the gold
    labels. The feedback of fewer people than `learning.meaning_quorum` must show its gain.
    """
    taught = evidence.taught & evidence.trained
    pairs: Pairs = {task: pair for task in TASKS if task in taught and (pair := evidence.on_gold(task))}
    if evidence.alpha == 0.0 or not pairs or _is_of_few_people(evidence):
        return None
    overall = compare_overall(evidence, pairs)
    p = min(overall.p_better, _p_likelihood(evidence, pairs, overall))
    if p > LIKELY:
        return None
    detail = f"a gain is likely: {overall.summary} (p {p:.2g}, at most {LIKELY:.2g} is needed)"
    return GateCheck(
        name="likely", passed=True, detail=detail, statistic=z_of(p), interval=overall.interval,
        threshold=z_of(LIKELY),
    )  # fmt: skip


def _is_of_few_people(evidence: Evidence) -> bool:
    """Whether feedback judges, and is of fewer people than the quorum."""
    people = {one for owners in evidence.people for one in owners}
    return not evidence.gold.all() and len(people) < evidence.quorum


def _p_likelihood(evidence: Evidence, pairs: Pairs, overall: Comparison) -> float:
    """The p-value of the summed log-likelihoods of a text; 1 with too few texts, or a lower accuracy."""
    gain, known = np.zeros(len(evidence.examples)), np.zeros(len(evidence.examples), dtype=bool)
    for task in CATEGORY_TASKS:
        after, before = pairs.get(task, (None, None))
        if after is None or before is None or after.log_likelihoods is None or before.log_likelihoods is None:
            continue
        change = after.log_likelihoods - before.log_likelihoods
        finite = np.isfinite(change)
        gain[after.positions[finite]] += change[finite]
        known[after.positions[finite]] = True
    positions = np.flatnonzero(known)
    if len(positions) < MIN_LIKELIHOODS or overall.difference < -ROUNDING:
        return 1.0
    values = gain[positions]
    return p_value(float(values.mean()), clustered_error(evidence, positions, values))
