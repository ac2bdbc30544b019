"""How far a cycle has come, and the results of those that did not come far."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

from karen_learner.curation import Curated
from karen_learner.records import (
    CurationCounts,
    CycleMode,
    CycleRow,
    CycleStatus,
    Example,
    LearningCycleResult,
    Lease,
    ModelVersion,
    Turn,
    ValidationResult,
    Verdict,
    utc_now,
)
from karen_learner.training import PipelineSpec

PROCESS_ENDED = "the process ended while the cycle was"
CANCELLED = "it was cancelled while it was"


@dataclass(kw_only=True)
class Course:
    """How far a cycle has come: filled in stage by stage, told in its result."""

    cycle_id: str
    tenant_id: str
    mode: CycleMode
    reason: str | None
    lease: Lease
    champion: ModelVersion | None
    started_at: datetime = field(default_factory=utc_now)
    started: float = field(default_factory=perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)
    curation: CurationCounts | None = None
    selection: Curated | None = None
    replayed: tuple[Example, ...] = ()
    self_labelled: tuple[Turn, ...] = ()
    skipped_examples: int = 0
    holdout: tuple[Example, ...] = ()
    baseline: ValidationResult | None = None
    validation: ValidationResult | None = None
    verdict: Verdict | None = None
    champion_spec: PipelineSpec | None = None
    deployed: ModelVersion | None = None

    def result(self, status: CycleStatus, *, error: str | None = None) -> LearningCycleResult:
        """What there is to tell, now that it has ended as `status`."""
        champion, selection = self.champion, self.selection
        live = self.deployed or champion
        return LearningCycleResult(
            cycle_id=self.cycle_id,
            tenant_id=self.tenant_id,
            mode=self.mode,
            reason=self.reason,
            status=status,
            model_improved=status == "deployed" and bool(self.verdict and self.verdict.improved),
            training_examples=len(selection.new) if selection else 0,
            replay_examples=len(self.replayed),
            self_labelled_turns=len(self.self_labelled),
            baseline=self.baseline,
            validation=self.validation,
            verdict=self.verdict,
            model_version=live.version if live else None,
            previous_version=champion.version if champion else None,
            backup_path=champion.backup_path if champion else None,
            started_at=self.started_at,
            duration_s=perf_counter() - self.started,
            stage_seconds=self.seconds,
            curation=self.curation,
            skipped_examples=self.skipped_examples,
            error_message=error,
        )


def new_cycle_id() -> str:
    """Sorts by time, and is the same for nobody else."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def busy(tenant_id: str, champion: ModelVersion | None, reason: str | None) -> LearningCycleResult:
    now = utc_now()
    return LearningCycleResult(
        cycle_id=new_cycle_id(),
        tenant_id=tenant_id,
        mode="incremental" if champion else "full",
        reason=reason,
        status="skipped",
        model_version=champion.version if champion else None,
        backup_path=champion.backup_path if champion else None,
        started_at=now,
        error_message="another cycle of this tenant is running: one at a time",
    )


def cut_off(row: CycleRow, champion: ModelVersion | None, why: str) -> LearningCycleResult:
    """What an interrupted cycle came to: it may have been deployed a moment before the end."""
    deployed = champion is not None and champion.cycle_id == row.cycle_id
    message = f"{why} {row.stage}"
    return LearningCycleResult(
        cycle_id=row.cycle_id,
        tenant_id=row.tenant_id,
        mode=row.mode,
        reason=row.reason,
        status="deployed" if deployed else "failed",
        model_version=champion.version if champion else None,
        previous_version=(champion.parent if deployed else champion.version) if champion else None,
        backup_path=champion.backup_path if champion else None,
        started_at=row.started_at,
        duration_s=max(0.0, (utc_now() - row.started_at).total_seconds()),
        error_message=message if deployed else f"{message}; the champion is what it was",
    )
