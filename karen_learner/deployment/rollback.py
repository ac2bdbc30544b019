"""Rollback: an earlier version, or the model in a backup, becomes the champion again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from asyncio_extras import call_in_executor

from karen_learner.contracts import EventPublisher, MemoryStore
from karen_learner.deployment.champion_sync import ChampionSync
from karen_learner.errors import DeploymentError, DigestMismatch, UnknownVersion
from karen_learner.events import ModelRolledBack
from karen_learner.memory.leases import hold_files
from karen_learner.models.backups import intact_manifest, read_backup_manifest
from karen_learner.models.versions import Manifest, ModelRegistry
from karen_learner.records import (
    CycleRow,
    LearningCycleResult,
    ModelVersion,
    Promotion,
    new_cycle_id,
    utc_now,
)

CHANGED = (
    "the served version of {!r} changed at the same moment: see `karen-learner versions`, and repeat the "
    "rollback if it is still wanted"
)


@dataclass(eq=False, repr=False)
class Rollback:
    """Makes an earlier version the champion, and journals that.

    Examples that only the undone versions learned wait until a person releases or discards them.
    """

    store: MemoryStore
    registry: ModelRegistry
    champions: ChampionSync
    events: EventPublisher

    async def to_version(self, tenant_id: str, version: str | None = None) -> ModelVersion:
        """Make `version`, or the parent of the served one, the champion. A damaged one is restored first.

        Raises UnknownVersion, ModelError, StoreLocked (a clean-up does not end), or DeploymentError. Causes
        of the last: it is the champion, or the champion changed at the same moment.
        """
        async with hold_files(self.store, tenant_id):
            return await self._to_version(tenant_id, version)

    async def _to_version(self, tenant_id: str, version: str | None) -> ModelVersion:
        started = perf_counter()
        champion = await self.registry.champion(tenant_id)
        provisional = await self.registry.provisional(tenant_id)
        target = await self._target(tenant_id, champion, provisional, version)
        if provisional is not None and champion is not None and target.version == champion.version:
            await self._end_provisional(provisional, champion, started)
        elif target.version in (one.version for one in (champion, provisional) if one is not None):
            raise DeploymentError(f"{target.version} serves already: there is nothing to roll back")
        else:
            await self._switch(target, champion, provisional or champion, started)
        return target

    async def to_backup(self, backup: Path) -> ModelVersion:
        """Make the model in an archive the champion of the tenant that its manifest names.

        The store must know the version, and the unpacked files must have the recorded digest. Raises
        UnknownVersion, ModelError, DigestMismatch, DeploymentError.
        """
        manifest: Manifest = await call_in_executor(read_backup_manifest, backup)
        known = await self.registry.get(manifest.tenant_id, manifest.version)
        if known is None:
            raise UnknownVersion(
                f"{backup} holds {manifest.version} of {manifest.tenant_id!r}, which this store never "
                "deployed: it is not loaded, because a model is code"
            )
        if manifest.digest != known.digest:
            raise DigestMismatch(f"{backup} is not the backup that was made of {known.version}")
        async with hold_files(self.store, manifest.tenant_id):
            await call_in_executor(intact_manifest, known.model_copy(update={"backup_path": backup}))
            return await self._to_version(manifest.tenant_id, manifest.version)

    async def _target(
        self,
        tenant_id: str,
        champion: ModelVersion | None,
        provisional: ModelVersion | None,
        version: str | None,
    ) -> ModelVersion:
        serving = provisional or champion
        wanted = version if version is not None else serving.parent if serving is not None else None
        if wanted is None:
            raise UnknownVersion(
                f"{tenant_id!r} has no earlier version: name one of `karen-learner versions`"
            )
        target = await self.registry.named(tenant_id, wanted)
        if target is None:
            raise UnknownVersion(f"{tenant_id!r} has no version {wanted!r}: see `karen-learner versions`")
        if target.provisional and target != provisional:
            raise DeploymentError(
                f"{wanted} is a micro-update that no gate has judged: it cannot become the champion"
            )
        return target

    async def _end_provisional(
        self, provisional: ModelVersion, champion: ModelVersion, started: float
    ) -> None:
        """Let the champion serve again; the examples of the provisional version wait."""
        tenant_id, name = provisional.tenant_id, provisional.version
        row = _journal_row(champion, provisional, started)
        if not await self.store.end_provisional(tenant_id, name, undo=True, token=None, journal=row):
            raise DeploymentError(CHANGED.format(tenant_id))
        await self.champions.refresh(tenant_id)
        self.events.publish(
            ModelRolledBack(tenant_id=tenant_id, version=champion.version, previous_version=name)
        )

    async def _switch(
        self,
        target: ModelVersion,
        champion: ModelVersion | None,
        before: ModelVersion | None,
        started: float,
    ) -> None:
        """Make the target the champion, instead of the version that served before."""
        model = await self.champions.load(target)
        expected = champion.version if champion is not None else None
        row = _journal_row(target, before, started)
        promotion = Promotion(version=target, expected=expected, journal=row)
        if not await self.champions.switch(model, promotion, token=None):
            raise DeploymentError(CHANGED.format(target.tenant_id))
        self.events.publish(
            ModelRolledBack(tenant_id=target.tenant_id, version=target.version, previous_version=expected)
        )


def _journal_row(target: ModelVersion, before: ModelVersion | None, started: float) -> CycleRow:
    """A finished cycle with the status `rolled_back`, written in the transaction of the rollback."""
    now = utc_now()
    result = LearningCycleResult(
        cycle_id=new_cycle_id(),
        tenant_id=target.tenant_id,
        mode="incremental",
        reason=f"rollback to {target.version}",
        status="rolled_back",
        model_version=target.version,
        previous_version=before.version if before else None,
        backup_path=before.backup_path if before else None,
        started_at=now,
        duration_s=perf_counter() - started,
    )
    return CycleRow(
        **result.model_dump(include={"cycle_id", "tenant_id", "mode", "reason", "started_at"}),
        stage="finished",
        token=0,
        finished_at=now,
        result=result,
    )
