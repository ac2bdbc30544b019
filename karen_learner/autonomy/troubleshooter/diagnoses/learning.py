"""Diagnoses of learning cycles and of their data."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta

from karen_learner.autonomy.troubleshooter.situation import Situation
from karen_learner.monitoring.readings.drift import EFFECTS
from karen_learner.records import LearningCycleResult
from karen_learner.records.incidents import Examination
from karen_learner.records.readings import Reading

REJECTIONS_MAX = 3
ROLLBACKS_MAX = 2
ROLLBACK_DAYS = 7
FAILED_SHARE_MAX = 0.30
FAILED_MIN, CYCLES_SEEN = 3, 10
STALE_DAYS = 30.0
STALE_PENDING = 10
IMBALANCE_MAX = 20.0
IMBALANCE_BELOW = 10
JUDGED_MIN = 30
REJECTIONS = ("worse", "refused")
"""Decisions against the feedback of a cycle; `repeated_rejections` acts on them."""
DRIFT_READINGS = ("degradation", "label_distribution", "vocabulary", "input_drift")
DIVERGED = ("the loss of", "the weights of")
"""Begins of the messages of TrainingDiverged; the journal has only the text."""
NO_MEMORY = ("lack of memory", "MemoryError", "Cannot allocate memory", "Unable to allocate")


def divergence(situation: Situation) -> Examination:
    """The last training has diverged."""
    return _last_cycle(situation, "divergence", _is_diverged, "the loss of the last training diverged")


def memory_exhausted(situation: Situation) -> Examination:
    """The last training has ended for lack of memory."""
    return _last_cycle(
        situation,
        "memory_exhausted",
        _is_out_of_memory,
        "the worker of the last training had too little memory",
    )


def failing_cycles(situation: Situation) -> Examination:
    """More than 30 % of the last cycles have failed, and the last one has."""
    cycles = [one for one in situation.later_results if one.status != "rolled_back"][:CYCLES_SEEN]
    failed = sum(one.status == "failed" for one in cycles)
    share = failed / len(cycles) if cycles else None
    present: bool | None = None
    if cycles and cycles[0].status != "failed":
        present = False
    elif share is not None and failed >= FAILED_MIN:
        present = share > FAILED_SHARE_MAX
    return Examination(
        present=present,
        severity="critical" if failed >= 2 * FAILED_MIN else "warning",
        reading="failed_cycles",
        value=share,
        limit=FAILED_SHARE_MAX,
        summary=f"{failed} of the last {len(cycles)} cycles failed",
    )


def repeated_rejections(situation: Situation) -> Examination:
    """The gates have rejected three candidates in a row, and found the last one worse."""
    decided = [one for one in situation.later_results if one.verdict is not None]
    row = 0
    for one in decided:
        if one.verdict is None or one.verdict.accepted:
            break
        row += 1
    worst = decided[0].verdict.decision if decided and decided[0].verdict is not None else None
    pending = _pending(situation)
    is_cured = (bool(decided) and row == 0) or (situation.after is not None and pending == 0)
    present = True if row >= REJECTIONS_MAX and worst in REJECTIONS else False if is_cured else None
    return Examination(
        present=present,
        reading="rejections",
        value=float(row),
        limit=float(REJECTIONS_MAX),
        summary=f"the gates rejected the last {row} candidates",
        facts={"decision": worst, "pending": pending},
    )


def repeated_rollbacks(situation: Situation) -> Examination:
    """Two versions were rolled back within a week."""
    since = situation.now - timedelta(days=ROLLBACK_DAYS)
    count = sum(one.status == "rolled_back" and one.started_at > since for one in situation.later_results)
    is_known = situation.after is None or situation.now - situation.after > timedelta(days=1)
    return Examination(
        present=count >= ROLLBACKS_MAX if is_known or count >= ROLLBACKS_MAX else None,
        severity="critical",
        reading="rollbacks",
        value=float(count),
        limit=float(ROLLBACKS_MAX),
        summary=f"{count} versions were rolled back within {ROLLBACK_DAYS} days",
    )


def drift(situation: Situation) -> Examination:
    """A test of the readings has found that errors, labels or inputs have changed, inputs with an effect."""
    found = [situation.readings[name] for name in DRIFT_READINGS if name in situation.readings]
    known = [one for one in found if one.alarm is not None and one.known]
    alarms = [one for one in known if one.alarm and _has_effect(one)]
    if not known:
        return Examination(present=None, reading="drift")
    worst = alarms[0] if alarms else known[0]
    return Examination(
        present=False if situation.is_retrained else bool(alarms),
        reading=worst.name,
        value=worst.value,
        limit=worst.reference,
        summary=f"{', '.join(one.name for one in alarms) or worst.name} has changed",
        facts={"false_alarms_per_month": worst.false_alarms_per_month},
    )


def _has_effect(found: Reading) -> bool:
    distance = (found.value or 0.0) - (found.reference or 0.0)
    return distance >= EFFECTS.get(found.name, -math.inf)


def stale_model(situation: Situation) -> Examination:
    """The model is older than 30 days, and there is something to learn."""
    champion = situation.status.champion if situation.status is not None else None
    if champion is None:
        return Examination(present=None, reading="freshness")
    days = (situation.now - champion.created_at) / timedelta(days=1)
    pending = _pending(situation)
    return Examination(
        present=days > STALE_DAYS and pending >= STALE_PENDING and not situation.is_retrained,
        reading="freshness",
        value=days,
        limit=STALE_DAYS,
        summary=f"the model is {days:.0f} days old, and {pending} examples or turns wait",
        facts={"pending": pending},
    )


def label_imbalance(situation: Situation) -> Examination:
    """An intent has fewer than 10 examples, and 20 times fewer than the largest one."""
    labels = situation.status.labels.get("intent", {}) if situation.status is not None else {}
    counts = sorted(count for count in labels.values() if count > 0)
    if len(counts) < 2:
        return Examination(present=None, reading="label_counts")
    ratio = counts[-1] / counts[0]
    rare = sum(count < IMBALANCE_BELOW and counts[-1] / count > IMBALANCE_MAX for count in counts)
    return Examination(
        present=rare > 0,
        reading="label_counts",
        value=ratio,
        limit=IMBALANCE_MAX,
        summary=f"{rare} of {len(counts)} intents have fewer than {IMBALANCE_BELOW} examples: add gold",
        facts={"smallest": counts[0], "largest": counts[-1]},
    )


def small_judging_set(situation: Situation) -> Examination:
    """The gates judge on so little gold that only large differences show.

    Unknown after a rejection if there is enough gold: the rejected feedback may contradict it.
    """
    judged = [one for one in situation.results if one.validation is not None and one.verdict is not None]
    newest = judged[0] if judged else None
    if newest is None or newest.validation is None or newest.verdict is None or situation.status is None:
        return Examination(present=None, reading="judged_texts")
    count = max(newest.validation.counts.values(), default=0)
    is_disputed = newest.verdict.decision in REJECTIONS and situation.status.counts.gold >= JUDGED_MIN
    return Examination(
        present=count < JUDGED_MIN and (None if is_disputed else True),
        reading="judged_texts",
        value=float(count),
        limit=float(JUDGED_MIN),
        summary=f"{count} gold texts judge candidates: add labelled texts",
    )


def _last_cycle(
    situation: Situation, reading: str, matches: Callable[[LearningCycleResult], bool], summary: str
) -> Examination:
    """Whether the last cycle has failed in one way. Unknown without a cycle after the last remedy."""
    cycles = [one for one in situation.later_results if one.status != "rolled_back"]
    return Examination(
        present=None if not cycles else matches(cycles[0]),
        severity="critical",
        reading=reading,
        value=float(sum(map(matches, cycles))),
        limit=0.0,
        summary=summary,
    )


def _is_diverged(result: LearningCycleResult) -> bool:
    return result.status == "failed" and (result.error_message or "").startswith(DIVERGED)


def _is_out_of_memory(result: LearningCycleResult) -> bool:
    message = result.error_message or ""
    return result.status == "failed" and any(words in message for words in NO_MEMORY)


def _pending(situation: Situation) -> int:
    if situation.status is None:
        return 0
    counts = situation.status.counts
    return counts.examples.get("pending", 0) + counts.awaiting_curation
