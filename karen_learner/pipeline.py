"""`IncrementalTrainingPipeline`: a facade over training and deployment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from karen_learner.contracts import TrainingBackend
from karen_learner.cycle import LearningCycle, RequestedMode
from karen_learner.deployment import Rollback
from karen_learner.records import LearningCycleResult, ModelVersion


@dataclass(eq=False, repr=False)
class IncrementalTrainingPipeline:
    """Runs learning cycles and rollbacks. Each method first awaits `start`."""

    _cycle: LearningCycle
    _rollback: Rollback
    _backend: TrainingBackend
    _start: Callable[[], Awaitable[None]]

    @property
    def worker_pid(self) -> int | None:
        """The process id of the training worker, if one runs."""
        return self._backend.pid

    async def warm_up(self) -> None:
        """Start the worker now: the first cycle then does not wait until spaCy is loaded."""
        await self._start()
        await self._backend.start()

    async def run(
        self, tenant_id: str, *, mode: RequestedMode = "auto", force: bool = False, reason: str | None = None
    ) -> LearningCycleResult:
        """One learning cycle, as `AutonomousLearner.trigger_learning_cycle`."""
        await self._start()
        return await self._cycle.run_cycle(tenant_id, mode=mode, force=force, reason=reason)

    async def rollback(self, tenant_id: str, version: str | None = None) -> ModelVersion:
        """Make `version`, or the champion's parent, the champion, and journal it.

        Raises UnknownVersion, ModelError, DeploymentError.
        """
        await self._start()
        return await self._rollback.to_version(tenant_id, version)

    async def rollback_model(self, backup_path: Path | str) -> ModelVersion:
        """Make the model in a backup the champion, and journal it.

        Raises UnknownVersion (no such archive, or not one of this store), ModelError, DigestMismatch.
        """
        await self._start()
        return await self._rollback.to_backup(Path(backup_path))
