"""The deployment stage of a cycle: an accepted candidate becomes the champion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from asyncio_extras import call_in_executor
from spacy.language import Language

from karen_learner.components.documents import make_doc
from karen_learner.contracts import Clock, EventPublisher, MemoryStore
from karen_learner.deployment.champion_sync import ChampionSync
from karen_learner.errors import DeploymentError, DigestMismatch, ModelError
from karen_learner.events import ModelDeployed
from karen_learner.memory.leases import hold_files
from karen_learner.models.backups import backup_file, make_backup, place_backup, write_backup
from karen_learner.models.files import HomeLayout, Kept, remove, remove_folder, to_remove
from karen_learner.models.live import LiveModel
from karen_learner.models.loading import warm_blank
from karen_learner.models.versions import (
    Manifest,
    ModelRegistry,
    candidate_digest,
    library_versions,
    seal,
    version_name,
)
from karen_learner.records import (
    ANCHOR,
    PROVISIONAL,
    TASKS,
    CycleContext,
    Holdback,
    ModelVersion,
    Promotion,
    RemovedFile,
    Task,
    utc_now,
)
from karen_learner.records.training import PipelineSpec, Predicted
from karen_learner.settings import Settings
from karen_learner.training.prediction import answer_of
from karen_learner.training.shadows import (
    ShadowIndex,
    place_shadows,
    prune_shadows,
    write_index,
    write_judged,
)
from karen_learner.training.stage import MicroUpdate, Trained
from karen_learner.validation.stage import Validated

logger = logging.getLogger(__name__)

MAX_DIFFERENT_ANSWERS = 0.05
MEASUREMENTS = 2
"""Windows of a holdback: the effect is measured, and measured again later."""
Blank = Awaitable[Language | None]
"""The pipeline of `warm_blank`, which a candidate takes over."""
HEADLINE_SCORES = {"accuracy", "f1_score", "intent_accuracy", "sentiment_accuracy", "entity_accuracy"}
"""The scores in a version's row and manifest."""


@dataclass(frozen=True, kw_only=True)
class LoadedCandidate:
    """The model of a candidate in memory, and the digest of the files that it was loaded from."""

    model: LiveModel
    digest: str


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A candidate that serves, and the tasks with a shown gain."""

    version: ModelVersion
    improved: tuple[Task, ...] = ()


@dataclass(eq=False, repr=False)
class Deployer:
    """Promotes candidates: changes the champion's row, and the live model with it."""

    store: MemoryStore
    registry: ModelRegistry
    champions: ChampionSync
    layout: HomeLayout
    settings: Settings
    events: EventPublisher
    clock: Clock = utc_now

    def prepare(self, tenant_id: str) -> Blank:
        """Make the tokenizer of a candidate while it trains."""
        language = self.settings.of(tenant_id).training.language
        return asyncio.get_running_loop().run_in_executor(None, warm_blank, language)

    @asynccontextmanager
    async def loading(
        self, candidate: PipelineSpec, blank: Blank | None = None
    ) -> AsyncIterator[asyncio.Task[LoadedCandidate]]:
        """Load the candidate during the block, while it is judged. It is closed unless it is deployed."""
        task = asyncio.create_task(self.load(candidate, blank))
        try:
            yield task
        finally:
            task.add_done_callback(_close_unless_deployed)

    async def load(self, candidate: PipelineSpec, blank: Blank | None = None) -> LoadedCandidate:
        """Load and warm up the pipeline in a staging folder. Raises ModelError."""
        try:
            prepared = None if blank is None else await blank
            loaded: LoadedCandidate = await call_in_executor(_load_candidate, candidate, prepared)
        except OSError as error:
            raise ModelError(
                f"the files of the candidate {candidate.path} cannot be read: {error}"
            ) from error
        return loaded

    async def deploy(self, validated: Validated, loaded: LoadedCandidate) -> Deployed:
        """Seal the files of an accepted candidate, switch the row, swap the live model, make the backup.

        A failure before the row is switched leaves the champion unchanged. Raises DeploymentError (the
        champion changed since), FencedOut, DigestMismatch or ModelError.
        """
        trained = validated.trained
        await require_same_answers(trained.probes, validated.served, loaded.model)
        scores = validated.validation.model_dump(include=HEADLINE_SCORES, exclude_none=True)
        judged = {f"judged_{task}": count for task, count in validated.validation.counts.items()}
        version = await self._seal(trained, loaded.digest, scores=scores, counts=judged)
        archive, _ = await asyncio.gather(
            self._write_backup(version), self._place_shadows(validated, version)
        )
        promotion = Promotion(
            version=version,
            expected=version.parent,
            learned=trained.curated.new,
            replayed=[example.example_id for example in trained.replayed],
            masks=trained.folds.masks,
            generation=trained.generation,
            anchors=validated.best,
            holdback=self._new_holdback(validated.cycle),
        )
        await self._switch(loaded.model, promotion, validated.cycle)
        await self.back_up(version, archive=archive)
        return Deployed(version=version, improved=validated.verdict.improved)

    def _new_holdback(self, cycle: CycleContext) -> Holdback | None:
        """The users that keep the champion: none by default, or if its files are lost."""
        impact, now = self.settings.impact, self.clock()
        if not impact.holdback_share or cycle.champion is None or not self.champions.knows_users:
            return None
        return Holdback(
            version=cycle.champion.version,
            share=impact.holdback_share,
            started_at=now,
            ends_at=now + MEASUREMENTS * timedelta(days=impact.window_days),
        )

    async def deploy_provisional(
        self, trained: Trained | MicroUpdate, served: Sequence[Predicted], loaded: LoadedCandidate
    ) -> Deployed:
        """Let a candidate serve until the next decision, in place of an earlier provisional version.

        `served` are its predictions for its probes. Its examples stay pending. Raises as `deploy`.
        """
        await require_same_answers(trained.probes, served, loaded.model)
        version = await self._seal(trained, loaded.digest, provisional=True)
        former = trained.cycle.provisional
        lineage = [example.example_id for example in (*trained.curated.new, *trained.replayed)]
        if former is not None and isinstance(trained, MicroUpdate):  # it continues that version
            lineage += [one async for one in self.store.lineage(former.tenant_id, former.version)]
        promotion = Promotion(
            version=version,
            expected=former.version if former is not None else None,
            alias=PROVISIONAL,
            replayed=list(dict.fromkeys(lineage)),
        )
        await self._switch(loaded.model, promotion, trained.cycle)
        await self.back_up(version)
        return Deployed(version=version)

    async def end_provisional(self, provisional: ModelVersion, *, token: int) -> None:
        """Let the champion serve again: the gates did not confirm the provisional version."""
        name, tenant_id = provisional.version, provisional.tenant_id
        await self.store.end_provisional(tenant_id, name, undo=False, token=token)
        await self.champions.refresh(tenant_id)

    async def _switch(self, model: LiveModel, promotion: Promotion, cycle: CycleContext) -> None:
        version = promotion.version
        if not await self.champions.switch(model, promotion, token=cycle.token):
            raise DeploymentError(
                f"the champion of {version.tenant_id!r} changed while the candidate was trained on "
                f"{version.parent}: nothing was deployed, its examples stay pending"
            )
        self.events.publish(
            ModelDeployed(
                tenant_id=version.tenant_id,
                version=version.version,
                previous_version=version.parent,
                cycle_id=version.cycle_id,
            )
        )

    async def _seal(
        self,
        trained: Trained | MicroUpdate,
        digest: str,
        *,
        scores: Mapping[str, float] | None = None,
        counts: Mapping[str, int] | None = None,
        provisional: bool = False,
    ) -> ModelVersion:
        cycle = trained.cycle
        folder = Path(trained.candidate.path or "")
        if await call_in_executor(candidate_digest, folder) != digest:
            raise DigestMismatch(f"{folder} changed after it was loaded: it is not deployed")
        name = version_name(await self.store.next_version_number(cycle.tenant_id), digest)
        target = self.layout.version(cycle.tenant_id, name)
        version = ModelVersion(
            tenant_id=cycle.tenant_id,
            version=name,
            path=target,
            digest=digest,
            parent=cycle.champion.version if cycle.champion else cycle.lost,
            cycle_id=cycle.cycle_id,
            created_at=self.clock(),
            scores=scores or {},
            backup_path=backup_file(target, self.layout.backups(cycle.tenant_id)),
            provisional=provisional,
        )
        manifest = Manifest(
            **version.model_dump(exclude={"path", "backup_path", "removed", "provisional", "note"}),
            mode=cycle.mode,
            tasks=trained.candidate.tasks,
            counts={
                "new": len(trained.curated.new),
                "replay": len(trained.replayed),
                **(counts or {}),
            },
            settings=self.settings.of(cycle.tenant_id).training.model_dump(mode="json"),
            libraries=library_versions(),
        )
        await call_in_executor(seal, folder, target, manifest)
        return version

    async def _place_shadows(self, validated: Validated, version: ModelVersion) -> None:
        """Move the shadows to the folder of the version, with their predictions of the judged texts."""
        cycle, trained = validated.cycle, validated.trained
        staging = self.layout.shadow_staging(cycle.tenant_id, cycle.cycle_id)
        index = ShadowIndex(
            folds=trained.folds.folds,
            generation=trained.generation,
            tasks=tuple(spec.tasks for spec in trained.shadows),
        )
        await call_in_executor(write_index, staging, index)
        await call_in_executor(write_judged, staging, validated.judged)
        await call_in_executor(place_shadows, staging, self.layout.shadows(cycle.tenant_id, version.version))

    async def _write_backup(self, version: ModelVersion) -> Path | None:
        """Write the archive of a version that does not serve yet, without its name. None after a failure."""
        try:
            archive: Path = await call_in_executor(write_backup, version.path, version.backup_path)
        except OSError:  # `back_up` tries again, and logs
            return None
        return archive

    async def back_up(self, version: ModelVersion, *, archive: Path | None = None) -> None:
        """Make a missing backup, from its archive if that is written.

        The version serves without it, so a failure is only logged.
        """
        target = version.backup_path
        if target is None or target.is_file():
            return
        try:
            if archive is None:
                await call_in_executor(make_backup, version.path, target)
            else:
                await call_in_executor(place_backup, archive, target)
        except OSError:
            logger.exception(
                "%s serves, but its backup cannot be written: the next cycle tries again", version.version
            )

    async def clear_staging(self, tenant_id: str, *, cycle_id: str = "") -> None:
        """Remove the candidate of a failed cycle with its shadows.

        Without an id those of all cycles: call it under the lease, or while no process holds it.
        """
        staging = self.layout.models(tenant_id) / ".staging"
        for folder in await call_in_executor(lambda: list(staging.glob(f"{cycle_id}*"))):
            await call_in_executor(remove_folder, folder)

    async def clean_up(self, tenant_id: str, *, keep_corpus: str | None = None) -> None:
        """Make missing backups; remove staging folders, folders without a row, and files beyond retention.

        The champion, its parent, a provisional version and that of a running holdback are always kept. This
        holds for folders, backups and shadows. The best version of each task keeps its predictions. Call
        under the lease. Raises StoreLocked if a rollback does not end.
        """
        async with hold_files(self.store, tenant_id):
            await self._clean_up(tenant_id, keep_corpus)

    async def _clean_up(self, tenant_id: str, keep_corpus: str | None) -> None:
        kept = await self._kept(tenant_id)
        for name in filter(None, sorted(kept)):
            version = await self.registry.get(tenant_id, name)
            if version is not None and version.path.is_dir():
                await self.back_up(version)
        folder = self.layout.models(tenant_id)
        anchors = [await self.store.alias(tenant_id, ANCHOR + task) for task in TASKS]
        judged = frozenset(anchor.version for anchor in anchors if anchor is not None)
        generations = await call_in_executor(
            lambda: prune_shadows(folder / ".shadows", keep=kept, judged_only=judged)
        )
        await self.store.prune_masks(tenant_id, generations)
        await call_in_executor(remove, await self.removable(tenant_id, keep_corpus=keep_corpus))

    async def removable(self, tenant_id: str, *, keep_corpus: str | None = None) -> list[RemovedFile]:
        """The files that the next clean-up removes, apart from shadows. Changes nothing."""
        folder = self.layout.models(tenant_id)
        names: list[str] = await call_in_executor(lambda: [path.name for path in folder.glob("v*")])
        known = [name for name in names if await self.registry.get(tenant_id, name) is not None]
        kept = Kept(versions=await self._kept(tenant_id), known=frozenset(known), corpus=keep_corpus)
        found: list[RemovedFile] = await call_in_executor(
            to_remove, self.layout, tenant_id, self.settings.of(tenant_id).learning, kept
        )
        return found

    async def _kept(self, tenant_id: str) -> frozenset[str]:
        """The names of champion, parent, provisional version, and the version of a running holdback."""
        champion = await self.registry.champion(tenant_id)
        provisional = await self.registry.provisional(tenant_id)
        names = {champion.version, champion.parent} if champion is not None else set()
        names.add(provisional.version if provisional is not None else None)
        holdback = await self.store.holdback(tenant_id)
        if holdback is not None and holdback.runs(self.clock()):
            names.add(holdback.version)
        return frozenset(name for name in names if name is not None)


async def require_same_answers(texts: Sequence[str], served: Sequence[Predicted], model: LiveModel) -> None:
    """Raise DeploymentError if the loaded candidate answers otherwise than the saved one in the worker.

    Scores that are nearly equal may rank differently on another processor, so a few answers may differ.
    """
    labels = {task: model.labels(task) for task in model.tasks}
    rows = await model.run(
        lambda nlp: [answer_of(doc, labels) for doc in nlp.pipe(make_doc(nlp, text) for text in texts)]
    )
    differ = sum(row != one.row for row, one in zip(rows, served, strict=True))
    if differ > MAX_DIFFERENT_ANSWERS * len(rows):
        raise DeploymentError(
            f"the candidate answers {differ} of {len(rows)} texts otherwise after it is loaded: it is "
            "not deployed; check for packages that differ between this process and the worker"
        )


def _load_candidate(candidate: PipelineSpec, blank: Language | None) -> LoadedCandidate:
    folder = Path(candidate.path or "")
    digest = candidate_digest(folder)
    model = LiveModel.load(folder, tasks=candidate.tasks, version=None, blank=blank)
    return LoadedCandidate(model=model, digest=digest)


def _close_unless_deployed(loading: asyncio.Task[LoadedCandidate]) -> None:
    if loading.cancelled() or loading.exception() is not None:
        return
    model = loading.result().model
    if model.version is None:  # the switch sets it
        model.close()
