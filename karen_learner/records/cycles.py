"""Learning cycles: scores and verdict, lease, journal, result, and the versions that they produce."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from karen_learner.records.base import CycleMode, CycleStatus, Record, Score, Stage, Task, utc_now

Decision = Literal["accepted", "provisional", "too_close", "worse", "refused"]
"""The decision of the gates in one word."""

FlipKind = Literal["fixed", "broken", "changed"]
FLIP_KINDS: tuple[FlipKind, ...] = get_args(FlipKind)

CYCLE_LEASE = "cycle"
FILES_LEASE = "files"
"""The name of the lease of clean-ups and rollbacks."""


class LabelScore(Record):
    """Precision, recall and F1 of one label. `support` is the number of gold cases."""

    precision: Score
    recall: Score
    f1: Score
    support: int


class Confusion(Record):
    """Number of texts with the gold label `gold` and the prediction `predicted`, with ids of examples."""

    task: Task
    gold: str
    predicted: str
    count: int
    example_ids: tuple[str, ...] = ()


class ValidationResult(Record):
    """The scores of one model on labelled texts; of a version, its out-of-fold scores on judged gold.

    `intent_accuracy` and `sentiment_accuracy` are accuracies, `entity_accuracy` is the F1 of exact spans
    with labels. `accuracy` is their mean weighted by the texts of each task. `precision`, `recall` and
    `f1_score` are macro averages over labels, weighted likewise. A task without texts is None.
    `intervals` holds 95 % intervals by score name.
    """

    accuracy: Score | None
    precision: Score | None
    recall: Score | None
    f1_score: Score | None
    intent_accuracy: Score | None
    sentiment_accuracy: Score | None
    entity_accuracy: Score | None
    passed_threshold: bool
    counts: Mapping[Task, int] = Field(default_factory=dict)
    per_label: Mapping[Task, Mapping[str, LabelScore]] = Field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = Field(default_factory=dict)
    errors: tuple[Confusion, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_cross_validation(cls, values: Any) -> Any:
        """Ignore the cross-validated scores in rows of earlier releases."""
        if isinstance(values, Mapping) and "cross_validated" in values:
            return {key: value for key, value in values.items() if key != "cross_validated"}
        return values

    def task_score(self, task: Task) -> float | None:
        """The score that the gate compares for a task."""
        scores = {
            "intent": self.intent_accuracy,
            "sentiment": self.sentiment_accuracy,
            "entities": self.entity_accuracy,
        }
        return scores[task]


class GateCheck(Record):
    """One condition of a gate and its result.

    A check of a test has the `statistic`, the `interval` of the compared difference and the `threshold` of
    the statistic.
    """

    name: str
    passed: bool
    detail: str
    statistic: float | None = None
    interval: tuple[float, float] | None = None
    threshold: float | None = None


class Risk(Record):
    """The wealth of a decision: the chance, over all decisions, of deploying a candidate without a gain.

    `before` the decision, `spent` by it (its significance level) and left `after` it. `judged` is the largest
    number of judged gold texts so far, `newest_seq` their largest `seq`.
    """

    before: Score
    spent: Score
    after: Score
    judged: int = 0
    newest_seq: int = 0


class Verdict(Record):
    """Decision of the gates, with their checks. `harmful`: the candidate is clearly worse.

    `decision` is `accepted`, `provisional`, `too_close` (nothing is worse, no gain is shown), `worse`, or
    `refused` (another check failed). Rows of earlier releases have None. `provisional` is a micro-update
    without shown harm, or a candidate whose gain is likely and not shown. `missing` names the texts that
    would decide a verdict that is too close.
    """

    accepted: bool
    harmful: bool
    improved: tuple[Task, ...]
    checks: tuple[GateCheck, ...]
    decision: Decision | None = None
    alpha: Score | None = None
    risk: Risk | None = None
    missing: str | None = None

    @property
    def summary(self) -> str:
        failed = [check.detail for check in self.checks if not check.passed]
        return "; ".join(failed) if failed else "; ".join(check.detail for check in self.checks)


class Flip(Record):
    """A text that two versions answer differently.

    `fixed`: the second version is right, the first one is wrong. `broken`: the reverse. `changed`: both are
    wrong. An answer is a label, or the entities with their offsets.
    """

    kind: FlipKind
    task: Task
    example_id: str
    gold: str
    before: str
    after: str


class Flips(Record):
    """Judged texts that champion and candidate answer differently: numbers by task, and the first ones."""

    counts: Mapping[Task, Mapping[FlipKind, int]]
    first: tuple[Flip, ...] = ()


class DoubtfulLabel(Record):
    """A label of one person that the shadows find improbable; `predicted` is the one that they give."""

    example_id: str
    task: Task
    stated: str
    predicted: str


class ModelVersion(Record):
    """A version on disk: immutable content below `models/<tenant>/<version>`.

    `removed`: retention has deleted its files and its backup. `provisional`: it serves in place of
    the champion, which stays. A person may write a `note`.
    """

    tenant_id: str
    version: str
    path: Path
    digest: str
    parent: str | None
    cycle_id: str | None
    created_at: datetime
    scores: Mapping[str, float] = Field(default_factory=dict)
    backup_path: Path | None = None
    removed: bool = False
    provisional: bool = False
    note: str | None = None


class Lease(Record):
    """An exclusive right, such as that to run a cycle. `token`, larger for each holder, fences writes."""

    tenant_id: str
    name: str = CYCLE_LEASE
    owner: str
    token: int
    expires_at: datetime


def new_cycle_id() -> str:
    """A unique id that sorts by time."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


class CycleContext(Record):
    """Identity of a running cycle. `token` is that of its lease.

    `champion` is that of its start, `provisional` the version that served instead of it. `lost` is the
    version of a champion whose files and backup are lost. The cycle then has no `champion`: it trains a model
    on the examples that the lost one had learned, and replaces it without a gate. The champion has learned
    former meanings of `changed_meanings`.
    """

    cycle_id: str = Field(default_factory=new_cycle_id)
    tenant_id: str
    mode: CycleMode
    reason: str | None = None
    token: int
    champion: ModelVersion | None
    provisional: ModelVersion | None = None
    lost: str | None = None
    changed_meanings: tuple[str, ...] = ()
    started_at: datetime = Field(default_factory=utc_now)


class CurationCounts(Record):
    """Number of turns that curation read, and their results."""

    turns: int = 0
    accepted: int = 0
    merged: int = 0
    below_quality: int = 0
    conflicts: int = 0
    quarantined: int = 0
    unlabelled: int = 0


class LearningCycleResult(Record):
    """Result of one learning cycle. A bad cycle is a result, not an exception.

    `pending_examples` were pending when the training data was selected. The champion did not know
    `new_labels`. `changed_meanings` describe the intents whose older examples get another one than the
    champion has learned. A rejection for harm quarantined `quarantined_examples`. `lost_version` is a former
    champion whose files and backup were lost. The candidate has not learned the examples of
    `doubtful_labels` (the first ones).
    """

    cycle_id: str
    tenant_id: str
    mode: CycleMode
    reason: str | None
    status: CycleStatus
    model_improved: bool = False
    training_examples: int = 0
    replay_examples: int = 0
    baseline: ValidationResult | None = None
    validation: ValidationResult | None = None
    verdict: Verdict | None = None
    flips: Flips | None = None
    model_version: str | None = None
    previous_version: str | None = None
    backup_path: Path | None = None
    started_at: datetime
    duration_s: float = 0.0
    stage_seconds: Mapping[str, float] = Field(default_factory=dict)
    curation: CurationCounts | None = None
    skipped_examples: int = 0
    pending_examples: int = 0
    new_labels: tuple[str, ...] = ()
    changed_meanings: tuple[str, ...] = ()
    quarantined_examples: int = 0
    doubtful_labels: tuple[DoubtfulLabel, ...] = ()
    lost_version: str | None = None
    error_message: str | None = None


class CycleRow(Record):
    """One row of the journal. `stage` is the present stage, or the last one of a finished cycle."""

    cycle_id: str
    tenant_id: str
    mode: CycleMode
    reason: str | None
    stage: Stage
    token: int
    started_at: datetime
    finished_at: datetime | None = None
    result: LearningCycleResult | None = None
    seq: int | None = None


class LearningPlan(Record):
    """Preview of a cycle: its mode and its number of examples."""

    tenant_id: str
    mode: CycleMode
    would_run: bool
    why: str
    curation: CurationCounts
    training_examples: int
    replay_examples: int
    judged_texts: int
