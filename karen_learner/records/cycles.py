"""Learning cycles: who may run one, what it did, the versions that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pydantic import AliasChoices, Field

from karen_learner.records.base import CycleMode, CycleStatus, Record, Stage
from karen_learner.records.judgements import ValidationResult, Verdict


class ModelVersion(Record):
    """A version on disk: immutable content below `models/<tenant>/<version>`.

    `removed` says that neither its files nor its backup are there any more: they were past the retention.
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


class Lease(Record):
    """The right to run a cycle. `token` grows with each holder: writes are fenced by it."""

    tenant_id: str
    owner: str
    token: int
    expires_at: datetime


class CurationCounts(Record):
    """What became of the turns that awaited curation."""

    turns: int = 0
    accepted: int = 0
    merged: int = 0
    below_quality: int = 0
    conflicts: int = 0
    quarantined: int = 0
    unlabelled: int = 0


class LearningCycleResult(Record):
    """What one learning cycle did. A bad cycle is a result, not an exception."""

    cycle_id: str
    tenant_id: str
    mode: CycleMode
    reason: str | None
    status: CycleStatus
    model_improved: bool = False
    training_examples: int = 0
    replay_examples: int = 0
    pseudo_labelled_turns: int = Field(
        default=0, validation_alias=AliasChoices("pseudo_labelled_turns", "self_labelled_turns")
    )
    """`self_labelled_turns` in earlier journals."""
    baseline: ValidationResult | None = None
    validation: ValidationResult | None = None
    verdict: Verdict | None = None
    model_version: str | None = None
    previous_version: str | None = None
    backup_path: Path | None = None
    started_at: datetime
    duration_s: float = 0.0
    stage_seconds: Mapping[str, float] = Field(default_factory=dict)
    curation: CurationCounts | None = None
    skipped_examples: int = 0
    error_message: str | None = None


class CycleRow(Record):
    """A line of the journal. `stage` is where the cycle is, or was when it ended."""

    cycle_id: str
    tenant_id: str
    mode: CycleMode
    reason: str | None
    stage: Stage
    token: int
    started_at: datetime
    finished_at: datetime | None = None
    result: LearningCycleResult | None = None


class LearningPlan(Record):
    """What a cycle would do now, without doing it."""

    tenant_id: str
    mode: CycleMode
    would_run: bool
    why: str
    curation: CurationCounts
    training_examples: int
    replay_examples: int
    holdout_examples: int
