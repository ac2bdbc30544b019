"""A candidate becomes the champion, or an earlier version becomes it again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.analysis import common_words
from karen_learner.contracts import MemoryStore
from karen_learner.deployment.serving import Serving
from karen_learner.errors import DeploymentError, DigestMismatch, ModelError, UnknownVersion
from karen_learner.events import EventBus, ModelDeployed, ModelRolledBack
from karen_learner.models.backups import (
    backup_file,
    make_backup,
    prune_backups,
    read_backup_manifest,
    restore_backup,
)
from karen_learner.models.files import remove_folder
from karen_learner.models.layout import HomeLayout
from karen_learner.models.live import LiveModel
from karen_learner.models.registry import ModelRegistry
from karen_learner.models.versions import (
    Manifest,
    candidate_digest,
    library_versions,
    seal,
    verify,
    version_name,
)
from karen_learner.records import CycleMode, Example, ModelVersion, Promotion, Task, ValidationResult, utc_now
from karen_learner.settings import Settings

logger = logging.getLogger(__name__)

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained pipeline in its staging folder, and all that its manifest will tell."""

    tenant_id: str
    cycle_id: str
    mode: CycleMode
    folder: Path
    tasks: Mapping[Task, str]
    counts: Mapping[str, int]
    scores: Mapping[str, float]
    parent: str | None


@dataclass(frozen=True, kw_only=True)
class LoadedCandidate:
    """What will serve if the candidate is deployed, and the digest of the files that it was loaded from."""

    model: LiveModel
    digest: str


class Deployer:
    """Promotion and rollback. The champion is a row; this changes it, and the live model with it."""

    def __init__(
        self,
        store: MemoryStore,
        registry: ModelRegistry,
        serving: Serving,
        layout: HomeLayout,
        settings: Settings,
        *,
        events: EventBus,
    ) -> None:
        self._store = store
        self._registry = registry
        self._serving = serving
        self._layout = layout
        self._settings = settings
        self._events = events

    async def load(self, folder: Path, tasks: Mapping[Task, str]) -> LoadedCandidate:
        """Load and warm what lies in a staging folder. Raises ModelError."""
        try:
            loaded: LoadedCandidate = await call_in_executor(_load_candidate, folder, tasks)
        except OSError as error:
            raise ModelError(f"the files of the candidate {folder} cannot be read: {error}") from error
        return loaded

    async def promote(
        self,
        candidate: Candidate,
        loaded: LoadedCandidate,
        *,
        learned: Sequence[Example],
        replayed: Sequence[str],
        pseudo_labelled: Sequence[int] = (),
        token: int,
    ) -> ModelVersion:
        """Seal the files, switch the row and swap the live model; the backup follows.

        `loaded` is the candidate in memory; it is closed if it is not deployed. `learned` are examples as
        they were trained on, `replayed` the ids of those known before, `pseudo_labelled` the `seq` of turns
        that the model labelled. Whatever fails before the row is switched leaves the champion as it was.
        Raises DeploymentError (the champion was changed meanwhile), FencedOut, DigestMismatch or ModelError.
        """
        model, switched = loaded.model, False
        try:
            version = await self._seal(candidate, loaded.digest)
            promotion = Promotion(
                version=version,
                expected=candidate.parent,
                learned=learned,
                replayed=replayed,
                pseudo_labelled=pseudo_labelled,
            )
            switched = await self._store.promote(candidate.tenant_id, promotion, token=token)
        finally:
            if not switched:
                model.close()
        if not switched:
            raise DeploymentError(
                f"the champion of {candidate.tenant_id!r} was changed while the candidate was trained on "
                f"{candidate.parent}: nothing was deployed, its examples stay pending"
            )
        model.version = version.version
        self._serving.install(candidate.tenant_id, model)
        await self._announce(version, candidate.parent)
        await self._back_up(version)
        return version

    async def _back_up(self, version: ModelVersion) -> None:
        """Make the backup that is missing. Users need not wait for it: the version serves without."""
        if version.backup_path is None or version.backup_path.is_file():
            return
        try:
            await call_in_executor(make_backup, version.path, version.backup_path)
        except OSError:
            logger.exception(
                "%s serves, but its backup cannot be written: the next cycle tries again", version.version
            )

    async def _seal(self, candidate: Candidate, digest: str) -> ModelVersion:
        if await call_in_executor(candidate_digest, candidate.folder) != digest:
            raise DigestMismatch(f"{candidate.folder} was changed after it was loaded: it is not deployed")
        number = await self._store.next_version_number(candidate.tenant_id)
        name = version_name(number, digest)
        target = self._layout.version(candidate.tenant_id, name)
        manifest = Manifest(
            tenant_id=candidate.tenant_id,
            version=name,
            digest=digest,
            parent=candidate.parent,
            mode=candidate.mode,
            cycle_id=candidate.cycle_id,
            created_at=utc_now(),
            tasks=candidate.tasks,
            counts=candidate.counts,
            scores=candidate.scores,
            settings=self._settings.training.model_dump(mode="json"),
            libraries=library_versions(),
        )
        await call_in_executor(seal, candidate.folder, target, manifest)
        return ModelVersion(
            tenant_id=candidate.tenant_id,
            version=name,
            path=target,
            digest=digest,
            parent=candidate.parent,
            cycle_id=candidate.cycle_id,
            created_at=manifest.created_at,
            scores=candidate.scores,
            backup_path=backup_file(target, self._layout.backups(candidate.tenant_id)),
        )

    async def _announce(self, version: ModelVersion, previous: str | None) -> None:
        await self._serving.announce(version)
        await self._events.publish(
            ModelDeployed(
                tenant_id=version.tenant_id,
                version=version.version,
                previous_version=previous,
                cycle_id=version.cycle_id,
            )
        )

    async def rollback(self, tenant_id: str, version: str | None = None) -> ModelVersion:
        """Make an earlier version the champion again: `version`, or the champion's parent.

        A damaged version is restored from its backup first. What was learned in the versions that are
        undone is pending again. Raises UnknownVersion, ModelError, or DeploymentError when the champion
        was changed at the same moment.
        """
        champion = await self._registry.champion(tenant_id)
        target = await self._rollback_target(tenant_id, champion, version)
        if champion is not None and target.version == champion.version:
            raise DeploymentError(f"{target.version} is the champion already: there is nothing to roll back")
        model = await self._serving.load(target)
        expected = champion.version if champion is not None else None
        switched = False
        try:
            switched = await self._store.promote(
                tenant_id, Promotion(version=target, expected=expected), token=None
            )
        finally:
            if not switched:
                model.close()
        if not switched:
            raise DeploymentError(
                f"the champion of {tenant_id!r} was changed at the same moment: look at "
                "`karen-learner versions` and roll back again if it is still wanted"
            )
        self._serving.install(tenant_id, model)
        await self._serving.announce(target)
        await self._events.publish(
            ModelRolledBack(tenant_id=tenant_id, version=target.version, previous_version=expected)
        )
        return target

    async def _rollback_target(
        self, tenant_id: str, champion: ModelVersion | None, version: str | None
    ) -> ModelVersion:
        wanted = version if version is not None else champion.parent if champion is not None else None
        if wanted is None:
            raise UnknownVersion(
                f"{tenant_id!r} has no earlier version to go back to: name one of `karen-learner versions`"
            )
        target = await self._registry.get(tenant_id, wanted)
        if target is None:
            raise UnknownVersion(f"{tenant_id!r} has no version {wanted!r}: see `karen-learner versions`")
        return target

    async def inspect_backup(self, backup: Path) -> Manifest:
        """What an archive holds. Raises UnknownVersion or ModelError."""
        manifest: Manifest = await call_in_executor(read_backup_manifest, backup)
        return manifest

    async def restore_backup(self, backup: Path) -> ModelVersion:
        """Make the model in an archive the champion of the tenant that its manifest names.

        The archive must be one of a version that the store knows: what it unpacks to must have the
        digest that was recorded when it was made. Raises UnknownVersion, ModelError, DigestMismatch.
        """
        manifest = await self.inspect_backup(backup)
        known = await self._registry.get(manifest.tenant_id, manifest.version)
        if known is None:
            raise UnknownVersion(
                f"{backup} holds {manifest.version} of {manifest.tenant_id!r}, which this store never "
                "deployed: it is not loaded, a model is code"
            )
        if manifest.digest != known.digest:
            raise DigestMismatch(f"{backup} is not the backup that was made of {known.version}")
        await call_in_executor(_restore_if_damaged, known, backup)
        return await self.rollback(manifest.tenant_id, manifest.version)

    async def clean_up(self, tenant_id: str) -> None:
        """Remove what no version row owns, and what is past its time. Call under the lease.

        A crash, or a full disk, may have come between a deployment and its backup: then it is made now.
        The champion and its parent are always kept, as folders and as backups.
        """
        champion = await self._registry.champion(tenant_id)
        kept = {champion.version, champion.parent or ""} if champion is not None else set()
        for name in filter(None, sorted(kept)):
            version = await self._registry.get(tenant_id, name)
            if version is not None and version.path.is_dir():
                await self._back_up(version)
        folder = self._layout.models(tenant_id)
        days = self._settings.learning.backup_retention_days
        await call_in_executor(remove_folder, folder / ".staging")
        await call_in_executor(remove_folder, folder / ".restoring")
        for path in await call_in_executor(_version_folders, folder):
            expired = path.stat().st_mtime < utc_now().timestamp() - days * SECONDS_PER_DAY
            if path.name not in kept and (expired or await self._registry.get(tenant_id, path.name) is None):
                await call_in_executor(remove_folder, path)
        backups = self._layout.backups(tenant_id)
        await call_in_executor(lambda: prune_backups(backups, keep=kept, retention_days=days))


def _load_candidate(folder: Path, tasks: Mapping[Task, str]) -> LoadedCandidate:
    digest = candidate_digest(folder)
    model = LiveModel.load(folder, tasks=tasks, version=None, familiar_words=common_words)
    return LoadedCandidate(model=model, digest=digest)


def _restore_if_damaged(version: ModelVersion, backup: Path) -> None:
    try:
        verify(version.path, digest=version.digest)
    except ModelError:
        restore_backup(backup, version.path)


def _version_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("v*") if path.is_dir())


def headline_scores(result: ValidationResult) -> dict[str, float]:
    """The scores that a version's row and manifest carry."""
    names = ("accuracy", "f1_score", "intent_accuracy", "sentiment_accuracy", "entity_accuracy")
    return {name: value for name in names if (value := getattr(result, name)) is not None}
