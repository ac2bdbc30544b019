"""The deployment stage of a cycle: an accepted candidate becomes the champion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.contracts import EventPublisher, MemoryStore
from karen_learner.deployment.champion_sync import ChampionSync
from karen_learner.errors import DeploymentError, DigestMismatch, ModelError
from karen_learner.events import ModelDeployed
from karen_learner.models.backups import backup_file, make_backup, prune_backups
from karen_learner.models.files import HomeLayout, remove_folder
from karen_learner.models.live import LiveModel
from karen_learner.models.versions import (
    Manifest,
    ModelRegistry,
    candidate_digest,
    library_versions,
    seal,
    version_name,
)
from karen_learner.records import CycleMode, Example, ModelVersion, Promotion, Task, ValidationResult, utc_now
from karen_learner.settings import Settings
from karen_learner.training.stage import Trained
from karen_learner.validation.stage import Validated

logger = logging.getLogger(__name__)

SECONDS_PER_DAY = 86_400.0
RESTORE_TIME_S = 3_600.0
"""A restore takes seconds. An older folder of a restore is left by a crash, and is removed."""
HEADLINE_SCORES = ("accuracy", "f1_score", "intent_accuracy", "sentiment_accuracy", "entity_accuracy")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained pipeline in its staging folder, and the content of its manifest and lineage.

    `learned` are the new examples as trained on, `replayed` ids of older examples. `parent` is the champion
    that the candidate replaces.
    """

    tenant_id: str
    cycle_id: str
    mode: CycleMode
    folder: Path
    tasks: Mapping[Task, str]
    counts: Mapping[str, int]
    scores: Mapping[str, float]
    parent: str | None
    learned: Sequence[Example] = ()
    replayed: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class LoadedCandidate:
    """The model of a candidate in memory, and the digest of the files that it was loaded from."""

    model: LiveModel
    digest: str


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A candidate that is champion."""

    validated: Validated
    version: ModelVersion


class Deployer:
    """Promotes candidates: changes the champion's row, and the live model with it."""

    def __init__(
        self,
        store: MemoryStore,
        registry: ModelRegistry,
        champions: ChampionSync,
        layout: HomeLayout,
        settings: Settings,
        *,
        events: EventPublisher,
    ) -> None:
        self._store = store
        self._registry = registry
        self._champions = champions
        self._layout = layout
        self._settings = settings
        self._events = events

    @asynccontextmanager
    async def loading(self, trained: Trained) -> AsyncIterator[asyncio.Task[LoadedCandidate]]:
        """Load the candidate during the block, while it is judged. It is closed unless it is deployed."""
        spec = trained.candidate
        task = asyncio.create_task(self.load(Path(spec.path or ""), spec.tasks))
        try:
            yield task
        finally:
            task.add_done_callback(_close_unless_deployed)

    async def load(self, folder: Path, tasks: Mapping[Task, str]) -> LoadedCandidate:
        """Load and warm up the pipeline in a staging folder. Raises ModelError."""
        try:
            loaded: LoadedCandidate = await call_in_executor(_load_candidate, folder, tasks)
        except OSError as error:
            raise ModelError(f"the files of the candidate {folder} cannot be read: {error}") from error
        return loaded

    async def deploy(self, validated: Validated, loaded: LoadedCandidate) -> Deployed:
        """Promote an accepted candidate. Raises as `promote`."""
        token = validated.cycle.token
        version = await self.promote(candidate_of(validated), loaded, token=token)
        return Deployed(validated=validated, version=version)

    async def promote(self, candidate: Candidate, loaded: LoadedCandidate, *, token: int) -> ModelVersion:
        """Seal the files, switch the row, swap the live model, then make the backup.

        A failure before the row is switched leaves the champion unchanged, and closes the model. Raises
        DeploymentError (the champion changed since), FencedOut, DigestMismatch or ModelError.
        """
        switched = False
        try:
            version = await self._seal(candidate, loaded.digest)
            promotion = Promotion(
                version=version,
                expected=candidate.parent,
                learned=candidate.learned,
                replayed=candidate.replayed,
            )
            switched = await self._store.promote(candidate.tenant_id, promotion, token=token)
        finally:
            if not switched:
                loaded.model.close()
        if not switched:
            raise DeploymentError(
                f"the champion of {candidate.tenant_id!r} changed while the candidate was trained on "
                f"{candidate.parent}: nothing was deployed, its examples stay pending"
            )
        loaded.model.version = version.version
        self._champions.install(candidate.tenant_id, loaded.model)
        await self._champions.announce(version)
        self._events.publish(
            ModelDeployed(
                tenant_id=version.tenant_id,
                version=version.version,
                previous_version=candidate.parent,
                cycle_id=version.cycle_id,
            )
        )
        await self._back_up(version)
        return version

    async def _seal(self, candidate: Candidate, digest: str) -> ModelVersion:
        if await call_in_executor(candidate_digest, candidate.folder) != digest:
            raise DigestMismatch(f"{candidate.folder} changed after it was loaded: it is not deployed")
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

    async def _back_up(self, version: ModelVersion) -> None:
        """Make a missing backup. The version serves without it, so a failure is only logged."""
        if version.backup_path is None or version.backup_path.is_file():
            return
        try:
            await call_in_executor(make_backup, version.path, version.backup_path)
        except OSError:
            logger.exception(
                "%s serves, but its backup cannot be written: the next cycle tries again", version.version
            )

    async def clean_up(self, tenant_id: str) -> None:
        """Make missing backups; remove staging folders, folders without a row and expired versions.

        The champion and its parent are always kept, as folders and as backups. Call under the lease.
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
        for path in await call_in_executor(lambda: list((folder / ".restoring").glob("*"))):
            if _age_s(path) > RESTORE_TIME_S:  # a rollback without lease may use a younger one
                await call_in_executor(remove_folder, path)
        for path in await call_in_executor(_version_folders, folder):
            expired = _age_s(path) > days * SECONDS_PER_DAY
            if path.name not in kept and (expired or await self._registry.get(tenant_id, path.name) is None):
                await call_in_executor(remove_folder, path)
        backups = self._layout.backups(tenant_id)
        await call_in_executor(lambda: prune_backups(backups, keep=kept, retention_days=days))


def candidate_of(validated: Validated) -> Candidate:
    """The candidate of a cycle, with counts and scores for its manifest."""
    trained, cycle = validated.trained, validated.cycle
    new = trained.curated.new
    return Candidate(
        tenant_id=cycle.tenant_id,
        cycle_id=cycle.cycle_id,
        mode=cycle.mode,
        folder=Path(trained.candidate.path or ""),
        tasks=trained.candidate.tasks,
        counts={
            "new": len(new),
            "replay": len(trained.replayed),
            **{f"holdout_{task}": count for task, count in validated.validation.counts.items()},
        },
        scores=headline_scores(validated.validation),
        parent=cycle.champion.version if cycle.champion else None,
        learned=new,
        replayed=[example.example_id for example in trained.replayed],
    )


def headline_scores(result: ValidationResult) -> dict[str, float]:
    """The scores in a version's row and manifest."""
    return {name: value for name in HEADLINE_SCORES if (value := getattr(result, name)) is not None}


def _load_candidate(folder: Path, tasks: Mapping[Task, str]) -> LoadedCandidate:
    digest = candidate_digest(folder)
    model = LiveModel.load(folder, tasks=tasks, version=None)
    return LoadedCandidate(model=model, digest=digest)


def _close_unless_deployed(loading: asyncio.Task[LoadedCandidate]) -> None:
    if loading.cancelled() or loading.exception() is not None:
        return
    model = loading.result().model
    if model.version is None:  # promotion sets it
        model.close()


def _version_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("v*") if path.is_dir())


def _age_s(path: Path) -> float:
    return utc_now().timestamp() - path.stat().st_mtime
