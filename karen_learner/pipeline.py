"""`IncrementalTrainingPipeline`: a facade over training and deployment, beside the learner."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from karen_learner.contracts import MemoryStore
from karen_learner.cycle import LearningCycle, RequestedMode
from karen_learner.deployment import Deployer
from karen_learner.models.registry import ModelRegistry
from karen_learner.records import CycleRow, LearningCycleResult, ModelVersion, utc_now
from karen_learner.training import LocalWorker


class IncrementalTrainingPipeline:
    """Trains from what is curated, deploys what is better, and goes back to what was."""

    def __init__(
        self,
        cycle: LearningCycle,
        deployer: Deployer,
        store: MemoryStore,
        registry: ModelRegistry,
        worker: LocalWorker,
        *,
        start: Callable[[], Awaitable[None]],
    ) -> None:
        self._cycle = cycle
        self._deployer = deployer
        self._store = store
        self._registry = registry
        self._worker = worker
        self._start = start

    @property
    def worker_pid(self) -> int | None:
        """The process that trains, if it runs."""
        return self._worker.pid

    async def warm_up(self) -> None:
        """Start the worker now, so that the first cycle does not wait for spaCy to load."""
        await self._start()
        await self._worker.start()

    async def run(
        self, tenant_id: str, *, mode: RequestedMode = "auto", force: bool = False, reason: str | None = None
    ) -> LearningCycleResult:
        """One learning cycle, as `AutonomousLearner.trigger_learning_cycle`."""
        await self._start()
        return await self._cycle.run(tenant_id, mode=mode, force=force, reason=reason)

    async def rollback(self, tenant_id: str, version: str | None = None) -> ModelVersion:
        """Make `version`, or the champion's parent, live again, and journal it.

        Raises UnknownVersion, ModelError, DeploymentError.
        """
        await self._start()
        before = await self._registry.champion(tenant_id)
        started = perf_counter()
        target = await self._deployer.rollback(tenant_id, version)
        await self._journal(target, before, perf_counter() - started)
        return target

    async def rollback_model(self, backup_path: Path | str) -> ModelVersion:
        """Make the model in a backup live again, and journal it.

        Raises UnknownVersion (no such archive, or not one of this store), ModelError, DigestMismatch.
        """
        await self._start()
        path = Path(backup_path)
        manifest = await self._deployer.inspect_backup(path)
        before = await self._registry.champion(manifest.tenant_id)
        started = perf_counter()
        target = await self._deployer.restore_backup(path)
        await self._journal(target, before, perf_counter() - started)
        return target

    async def _journal(self, target: ModelVersion, before: ModelVersion | None, seconds: float) -> None:
        """A rollback stands in the history between the cycles: it changed what is live."""
        now = utc_now()
        result = LearningCycleResult(
            cycle_id=f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}",
            tenant_id=target.tenant_id,
            mode="incremental",
            reason=f"rollback to {target.version}",
            status="rolled_back",
            model_version=target.version,
            previous_version=before.version if before else None,
            backup_path=before.backup_path if before else None,
            started_at=now,
            duration_s=seconds,
        )
        row = CycleRow(
            cycle_id=result.cycle_id,
            tenant_id=target.tenant_id,
            mode=result.mode,
            reason=result.reason,
            stage="finished",
            token=0,
            started_at=now,
            finished_at=now,
            result=result,
        )
        await self._store.start_cycle(row)
