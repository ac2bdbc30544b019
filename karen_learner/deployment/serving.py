"""Keeps the live model of each tenant the one that the champion's row names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from asyncio_extras import call_in_executor

from karen_learner.analysis import common_words
from karen_learner.contracts import Analyzer
from karen_learner.errors import KarenLearnerError, ModelError
from karen_learner.models.backups import restore_backup
from karen_learner.models.live import LiveModel, LiveModels
from karen_learner.models.registry import ModelRegistry
from karen_learner.models.versions import Manifest, verify
from karen_learner.records import ModelVersion

logger = logging.getLogger(__name__)


class Serving:
    """Loads champions off the path and swaps them in.

    `recheck_s` is how long a tenant without a champion, or with one that could not be loaded, is
    left alone before the store is asked again. `analyzer` is told of every change of what is live,
    whichever process made it.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        models: LiveModels,
        *,
        analyzer: Analyzer,
        recheck_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._registry = registry
        self._models = models
        self._analyzer = analyzer
        self._recheck_s = recheck_s
        self._clock = clock
        self._loading: dict[str, asyncio.Task[LiveModel | None]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._told: dict[str, str] = {}
        self._not_before: dict[str, float] = {}
        self._failing: set[str] = set()

    async def ensure(self, tenant_id: str) -> LiveModel | None:
        """The live model of the tenant, loaded if need be; None where there is none to load.

        Never raises for a model that cannot be loaded: that is logged once, and the fallback answers.
        Requests that come while it loads wait for the one load, which goes on if any of them is cancelled.
        """
        model = self._models.get(tenant_id)
        if model is not None or self._is_left_alone(tenant_id):
            return model
        return await asyncio.shield(self._load_of(tenant_id))

    def _load_of(self, tenant_id: str) -> asyncio.Task[LiveModel | None]:
        """The load that is under way, or a new one."""
        task = self._loading.get(tenant_id)
        if task is None:
            task = self._loading[tenant_id] = asyncio.create_task(self._load_champion(tenant_id))
            task.add_done_callback(lambda done: self._loaded(tenant_id, done))
        return task

    def _loaded(self, tenant_id: str, task: asyncio.Task[LiveModel | None]) -> None:
        del self._loading[tenant_id]
        if not task.cancelled():
            task.exception()  # those who wait are told; with nobody left there is nobody to tell

    async def close(self) -> None:
        """Let loads that are under way end, and give up telling. Idempotent; call before the models are
        closed."""
        for telling in self._telling:
            telling.cancel()
        while under_way := [*self._loading.values(), *self._telling]:
            await asyncio.wait(under_way)

    def _is_left_alone(self, tenant_id: str) -> bool:
        return self._clock() < self._not_before.get(tenant_id, 0.0)

    async def refresh(self, tenant_id: str) -> None:
        """Follow a champion that another process has changed, and tell the analyzer of it.

        A tenant whose model has given way to others is left alone: its next request loads it.
        """
        champion = await self._registry.champion(tenant_id)
        live = self._models.peek(tenant_id)
        if champion is not None and live is not None and live.version != champion.version:
            await asyncio.shield(self._load_of(tenant_id))

    def install(self, tenant_id: str, model: LiveModel) -> None:
        """Swap a model in that is loaded and warm: the next request gets it."""
        self._not_before.pop(tenant_id, None)
        self._models.install(tenant_id, model)

    async def announce(self, version: ModelVersion) -> None:
        """Tell the analyzer that a version is live, unless it was told so last."""
        if self._told.get(version.tenant_id) == version.version:
            return
        self._told[version.tenant_id] = version.version
        try:
            await self._analyzer.on_deployed(version.version, version.path)
        except Exception:  # a host's analyzer is foreign code: the deployment stands without it
            logger.exception("the analyzer failed on the deployment of %s", version.version)

    def _note_loaded(self, version: ModelVersion) -> None:
        """What is first loaded was deployed before: no news. Anything else was deployed by another
        process. Told apart from the load, so that no request waits for foreign code."""
        if self._told.setdefault(version.tenant_id, version.version) != version.version:
            task = asyncio.create_task(self.announce(version))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def load(self, version: ModelVersion) -> LiveModel:
        """Load a version after its digest has been checked; a damaged one is restored from its backup.

        Raises DigestMismatch, ModelError or UnknownVersion.
        """
        try:
            model: LiveModel = await call_in_executor(load_version, version)
        except OSError as error:
            raise ModelError(f"the files of {version.version} cannot be read: {error}") from error
        return model

    async def _load_champion(self, tenant_id: str) -> LiveModel | None:
        """Once at a time for each tenant. What was the champion when it began to load may be no more
        when it has: then a deployment has installed the new one, and the old one must not take its place.
        """
        champion = await self._registry.champion(tenant_id)
        while champion is not None:
            live = self._models.get(tenant_id)
            if live is not None and live.version == champion.version:
                return live
            try:
                model = await self.load(champion)
            except KarenLearnerError:
                self._note_failure(tenant_id, champion, live)
                return live
            now = await self._registry.champion(tenant_id)
            if now is not None and now.version == champion.version:
                self._failing.discard(tenant_id)
                self.install(tenant_id, model)
                self._note_loaded(champion)
                return model
            model.close()
            champion = now
        self._leave_alone(tenant_id)
        return None

    def _leave_alone(self, tenant_id: str) -> None:
        self._not_before[tenant_id] = self._clock() + self._recheck_s

    def _note_failure(self, tenant_id: str, champion: ModelVersion, live: LiveModel | None) -> None:
        self._leave_alone(tenant_id)
        if tenant_id not in self._failing:
            self._failing.add(tenant_id)
            answers = live.version if live is not None else "the fallback"
            logger.exception("the champion %s cannot be loaded; %s answers", champion.version, answers)


def load_version(version: ModelVersion) -> LiveModel:
    """Check, restore if damaged, load and warm a version. Blocking. See `intact_manifest`."""
    manifest = intact_manifest(version)
    return LiveModel.load(
        version.path, tasks=manifest.tasks, version=version.version, familiar_words=common_words
    )


def intact_manifest(version: ModelVersion) -> Manifest:
    """The manifest of a version whose files are as they were sealed, restored if need be. Blocking.

    Raises ModelError if it is damaged and has no backup, or one that is damaged as well.
    """
    try:
        return verify(version.path, digest=version.digest)
    except ModelError as damage:
        restore_version(version, damage)
    manifest = verify(version.path, digest=version.digest)
    logger.warning("%s was damaged and has been restored from its backup", version.version)
    return manifest


def restore_version(version: ModelVersion, damage: Exception) -> None:
    """Put the backup of a version in its place. Raises ModelError if there is none."""
    backup = version.backup_path
    if backup is None or not backup.is_file():
        raise ModelError(
            f"{version.version} is damaged and has no backup ({damage}): roll back to another version"
        ) from damage
    restore_backup(backup, version.path)
