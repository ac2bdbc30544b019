"""Repairs of a home: a tenant's model, the worker, crashed cycles, live models, pending examples.

A damaged model is restored from its backup; a lost one is trained anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore, TrainingBackend
from karen_learner.cycle import LearningCycle
from karen_learner.deployment import ChampionSync, Deployer
from karen_learner.errors import KarenLearnerError
from karen_learner.models.backups import check_version, intact_manifest
from karen_learner.models.versions import ModelRegistry
from karen_learner.records import ModelVersion, RepairAction, RepairReport, VersionCheck


@dataclass(eq=False, repr=False)
class Repair:
    """Makes the champion of a tenant serve again, and its parent ready for a rollback."""

    store: MemoryStore
    registry: ModelRegistry
    champions: ChampionSync
    deployer: Deployer
    cycle: LearningCycle

    async def repair(self, tenant_id: str, *, dry_run: bool = False, force: bool = False) -> RepairReport:
        """Restore damaged versions from their backups, make missing backups, and load the champion.

        A full training replaces a lost champion, without a gate. With `force`, it also replaces one that
        cannot be loaded for another reason. With `dry_run` nothing changes, and a champion with intact files
        is not loaded.
        """
        champion = await self.registry.champion(tenant_id)
        versions = await self._versions(champion)
        checks: list[VersionCheck] = await call_in_executor(lambda: [check_version(one) for one in versions])
        report = RepairReport(tenant_id=tenant_id, checks=tuple(checks))
        if champion is None:
            return report
        report = report.model_copy(update={"action": _planned(checks), "problem": _unreadable(checks[0])})
        if dry_run:
            return report
        await self._restore(versions)
        loaded = await self.champions.reload(tenant_id)
        check: VersionCheck = await call_in_executor(check_version, champion)
        if loaded is not None and check.files == "intact":
            await self._back_up(versions)
            return report.model_copy(update={"done": True, "problem": None})
        if check.files in ("intact", "unreadable") and not force:
            failure = self.champions.failure(tenant_id)
            problem = _unreadable(check) or (failure.message if failure is not None else None)
            return report.model_copy(update={"problem": problem or "it cannot be loaded"})
        result = await self.cycle.run_cycle(
            tenant_id, mode="full", force=True, reason=f"repair of {champion.version}", replace=True
        )
        done = result.status == "deployed"
        return report.model_copy(update={"action": "retrain", "done": done, "problem": None, "cycle": result})

    async def _versions(self, champion: ModelVersion | None) -> Sequence[ModelVersion]:
        """The champion and its parent."""
        if champion is None:
            return ()
        parent = await self.registry.get(champion.tenant_id, champion.parent) if champion.parent else None
        return (champion,) if parent is None else (champion, parent)

    async def _restore(self, versions: Sequence[ModelVersion]) -> None:
        for version in versions:
            try:
                await call_in_executor(intact_manifest, version)
            except KarenLearnerError:  # the champion is trained anew; a lost parent stays lost
                continue

    async def _back_up(self, versions: Sequence[ModelVersion]) -> None:
        for version in versions:
            if version.path.is_dir():
                await self.deployer.back_up(version)


def _unreadable(check: VersionCheck) -> str | None:
    """The reason for which the operating system refuses to read a version; None if it does not."""
    return check.problem if check.files == "unreadable" else None


def _planned(checks: Sequence[VersionCheck]) -> RepairAction:
    """The first necessary action."""
    champion = checks[0]
    if champion.files in ("damaged", "missing"):
        return "restore" if champion.backup == "present" else "retrain"
    if any(check.files in ("damaged", "missing") and check.backup == "present" for check in checks):
        return "restore"
    missing = any(check.files == "intact" and check.backup == "missing" for check in checks)
    return "back_up" if missing else "nothing"


@runtime_checkable
class Restartable(Protocol):
    """A training backend whose worker can be restarted."""

    async def restart(self) -> None:
        """End the worker. A running job fails; the next one starts a new worker."""


@dataclass(eq=False, repr=False)
class Maintenance:
    """Repairs that `autonomy` requests, and that no method of the learner has."""

    store: MemoryStore
    backend: TrainingBackend
    cycle: LearningCycle
    champions: ChampionSync

    async def restart_worker(self) -> bool:
        """Restart the training worker; a running cycle fails. False if the backend has none to restart."""
        if not isinstance(self.backend, Restartable):
            return False
        await self.backend.restart()
        return True

    async def recover(self, tenant_id: str) -> None:
        """Journal the crashed cycles of a tenant, unless a process still runs one."""
        await self.cycle.recover(tenant_id)

    async def reload(self, tenant_id: str) -> bool:
        """Load the champion anew; whether it is live."""
        return await self.champions.reload(tenant_id) is not None

    async def set_aside(self, tenant_id: str, example_ids: Sequence[str]) -> int:
        """Quarantine pending feedback, as after a second harmful rejection; the number of examples."""
        found = await self.store.examples_by_id(tenant_id, example_ids)
        feedback = [one for one in found.values() if one.state == "pending" and not one.is_gold]
        return await self.store.reject_examples(tenant_id, feedback, harmful=True, quarantine_at=1)
