"""Progress of a cycle, and the results of cycles that end early."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from karen_learner.curation import Curated
from karen_learner.curation.meanings import Outdated
from karen_learner.deployment import Deployed
from karen_learner.memory import holder_of
from karen_learner.records import (
    CycleContext,
    CycleRow,
    CycleStatus,
    LearningCycleResult,
    Lease,
    ModelVersion,
    Stage,
    Verdict,
    new_cycle_id,
    utc_now,
)
from karen_learner.training.stage import MicroUpdate, Trained
from karen_learner.validation.stage import Validated

PROCESS_ENDED = "the process ended while the cycle was"
JOURNALLED_DOUBTS = 200
"""Doubtful labels in the journal."""
CANCELLED = "it was cancelled while it was"


@dataclass(kw_only=True)
class CycleState:
    """Progress of one cycle: the values of its completed stages, and the seconds of each stage.

    A micro-update has a verdict, and no scores in `validated`.
    """

    cycle: CycleContext
    curated: Curated | None = None
    pending: int = 0
    trained: Trained | MicroUpdate | None = None
    validated: Validated | None = None
    verdict: Verdict | None = None
    ended_provisional: bool = False
    deployed: Deployed | None = None
    quarantined: int = 0
    outdated: tuple[Outdated, ...] = ()
    seconds: dict[Stage, float] = field(default_factory=dict)
    started: float = field(default_factory=perf_counter)

    def result(self, status: CycleStatus, *, error: str | None = None) -> LearningCycleResult:
        """The result of the cycle that ends now as `status`."""
        cycle, curated, trained = self.cycle, self.curated, self.trained
        validated, deployed = self.validated, self.deployed
        former = cycle.champion if self.ended_provisional else cycle.provisional or cycle.champion
        live = deployed.version if deployed else former
        return LearningCycleResult(
            cycle_id=cycle.cycle_id,
            tenant_id=cycle.tenant_id,
            mode=cycle.mode,
            reason=cycle.reason,
            status=status,
            model_improved=deployed is not None and bool(deployed.improved),
            training_examples=len(curated.new) if curated else 0,
            replay_examples=len(trained.replayed) if trained else 0,
            baseline=validated.baseline if validated else None,
            validation=validated.validation if validated else None,
            verdict=self.verdict,
            flips=validated.flips if validated else None,
            model_version=live.version if live else None,
            previous_version=cycle.champion.version if cycle.champion else None,
            backup_path=existing_backup(cycle.champion),
            started_at=cycle.started_at,
            duration_s=perf_counter() - self.started,
            stage_seconds=self.seconds,
            curation=curated.counts if curated else None,
            skipped_examples=trained.skipped_examples if trained else 0,
            pending_examples=self.pending,
            new_labels=_names(curated),
            changed_meanings=cycle.changed_meanings,
            quarantined_examples=self.quarantined,
            doubtful_labels=trained.doubtful[:JOURNALLED_DOUBTS] if isinstance(trained, Trained) else (),
            lost_version=cycle.lost,
            error_message=error,
        )


def _names(curated: Curated | None) -> tuple[str, ...]:
    return tuple(sorted({label for _, label in curated.unknown_labels})) if curated else ()


def existing_backup(version: ModelVersion | None) -> Path | None:
    """The path of a version's backup, if there is one."""
    path = version.backup_path if version is not None else None
    return path if path is not None and path.is_file() else None


def skipped_result(
    tenant_id: str, champion: ModelVersion | None, reason: str | None, held: Lease | None
) -> LearningCycleResult:
    """The result of a request while another cycle of the tenant runs. It is not journalled.

    `held` is the lease of the other cycle, unless it was released since.
    """
    return LearningCycleResult(
        cycle_id=new_cycle_id(),
        tenant_id=tenant_id,
        mode="incremental" if champion else "full",
        reason=reason,
        status="skipped",
        model_version=champion.version if champion else None,
        backup_path=existing_backup(champion),
        started_at=utc_now(),
        error_message=f"another cycle of this tenant is running, one at a time: {_holder(held)}",
    )


def _holder(held: Lease | None) -> str:
    if held is None:
        return "it has just ended; repeat the request"
    return f"held by {holder_of(held.owner)} until {held.expires_at:%Y-%m-%d %H:%M:%S}Z, unless it is renewed"


def interrupted_result(row: CycleRow, champion: ModelVersion | None, reason: str) -> LearningCycleResult:
    """The result of an interrupted cycle. Its candidate may be champion already."""
    deployed = champion is not None and champion.cycle_id == row.cycle_id
    message = f"{reason} {row.stage}"
    return LearningCycleResult(
        cycle_id=row.cycle_id,
        tenant_id=row.tenant_id,
        mode=row.mode,
        reason=row.reason,
        status="deployed" if deployed else "failed",
        model_version=champion.version if champion else None,
        previous_version=(champion.parent if deployed else champion.version) if champion else None,
        backup_path=existing_backup(champion),
        started_at=row.started_at,
        duration_s=max(0.0, (utc_now() - row.started_at).total_seconds()),
        error_message=message if deployed else f"{message}; the champion is unchanged",
    )
