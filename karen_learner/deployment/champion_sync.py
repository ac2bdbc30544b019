"""Keeps live models equal to the champions' rows, also after changes by other processes.

`HeldVersions` does the same with the second live models of tenants with a holdback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from asyncio_extras import call_in_executor
from cachetools import TTLCache

from karen_learner.analysis.spacy_analyzer import SpacyAnalyzer
from karen_learner.contracts import Analyzer, Clock, MemoryStore
from karen_learner.errors import KarenLearnerError, ModelError, StoreError, UnknownVersion
from karen_learner.models.backups import intact_manifest, is_lost
from karen_learner.models.live import LiveModel, LiveModels
from karen_learner.models.versions import ModelRegistry
from karen_learner.records import Holdback, ModelVersion, Promotion, utc_now
from karen_learner.settings import ServingSettings


class HeldVersions:
    """Loads and releases the models of holdbacks. Without such a model the champion answers all users.

    `load` verifies and loads a version.
    """

    def __init__(
        self,
        store: MemoryStore,
        registry: ModelRegistry,
        models: LiveModels,
        load: Callable[[ModelVersion], Awaitable[LiveModel]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._registry = registry
        self._models = models
        self._load = load
        self._clock = clock
        self._failed: dict[str, Holdback] = {}

    async def refresh(self, tenant_id: str, former: LiveModel | None = None) -> None:
        """Make the second live model that of the running holdback; none without one.

        `former` was the live model until now: it is not loaded again. A version that cannot be loaded is
        reported once; if it is lost, its holdback ends.
        """
        holdback, held = await self._store.holdback(tenant_id), self._models.held(tenant_id)
        if holdback is None or not holdback.runs(self._clock()):
            self._models.end_hold(tenant_id)
            self._failed.pop(tenant_id, None)
        elif self._failed.get(tenant_id) != holdback and (held is None or held[0] != holdback):
            await self._hold(tenant_id, holdback, former)

    async def _hold(self, tenant_id: str, holdback: Holdback, former: LiveModel | None) -> None:
        self._models.end_hold(tenant_id)
        version = await self._registry.get(tenant_id, holdback.version)
        try:
            if version is None:
                raise UnknownVersion(f"{tenant_id!r} has no version {holdback.version!r}")
            same = former is not None and former.version == holdback.version and not former.closed
            model = former if same and former is not None else await self._load(version)
        except KarenLearnerError as error:
            self._failed[tenant_id] = holdback
            logger.error("%s cannot be held back, the champion answers all: %s", holdback.version, error)
            if version is None or await call_in_executor(is_lost, version):
                await self._end(tenant_id, holdback)
            return
        self._models.hold(tenant_id, holdback, model)

    async def _end(self, tenant_id: str, holdback: Holdback) -> None:
        try:
            await self._store.end_holdback(tenant_id, holdback.version, at=self._clock())
        except StoreError as error:
            logger.warning("the holdback of %s cannot be ended: %s", holdback.version, error)


logger = logging.getLogger(__name__)

MAX_ABSENT = 10_000
"""Number of remembered tenants without a loadable champion. The store is read again for others."""


@dataclass(frozen=True)
class LoadFailure:
    """A champion that could not be loaded: the version, the error, and the time of the first attempt."""

    version: str
    message: str
    at: datetime


class ChampionSync:
    """Loads champions in the background, swaps them in, and informs the analyzer of each change.

    For tenants with a live model, the store is read every `settings.refresh_s` seconds. For tenants without a
    loadable champion, it is read at most as often.
    """

    def __init__(
        self,
        store: MemoryStore,
        registry: ModelRegistry,
        models: LiveModels,
        settings: ServingSettings,
        *,
        analyzer: Analyzer,
        clock: Callable[[], float] = monotonic,
        now: Clock = utc_now,
    ) -> None:
        self._store = store
        self._registry = registry
        self._models = models
        self._settings = settings
        self._analyzer = analyzer
        self._held = HeldVersions(store, registry, models, self.load, now)
        self._loads: dict[str, asyncio.Task[LiveModel | None]] = {}
        self._announcements: set[asyncio.Task[None]] = set()
        self._announced: dict[str, str] = {}
        self._absent: TTLCache[str, bool] = TTLCache(MAX_ABSENT, ttl=settings.refresh_s, timer=clock)
        self._failures: dict[str, LoadFailure] = {}
        self._polling: asyncio.Task[None] | None = None

    # Lifecycle -------------------------------------------------------------------------------

    def start(self, recover: Callable[[str], Awaitable[object]]) -> None:
        """Start polling. `recover` journals crashed cycles of a tenant; it is called in each round."""
        self._polling = asyncio.create_task(self._poll(recover))

    async def close(self) -> None:
        """Stop polling, cancel announcements and wait for loads. Call before the models close. Idempotent."""
        for task in (self._polling, *self._announcements):
            if task is not None:
                task.cancel()
        polling = [] if self._polling is None else [self._polling]
        while tasks := [t for t in (*polling, *self._loads.values(), *self._announcements) if not t.done()]:
            await asyncio.wait(tasks)

    async def _poll(self, recover: Callable[[str], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_s)
            for tenant_id in self._models.tenants():
                try:
                    await self.refresh(tenant_id)
                    await recover(tenant_id)
                except Exception:  # polling must go on: the next round may succeed
                    logger.exception("cannot compare the live model of %r with its champion", tenant_id)

    @property
    def knows_users(self) -> bool:
        """Whether the analyzer can answer some users with another version. That of a host cannot."""
        return isinstance(self._analyzer, SpacyAnalyzer)

    # Loading ---------------------------------------------------------------------------------

    def failure(self, tenant_id: str) -> LoadFailure | None:
        """The failed load of the tenant's champion; None after a successful one."""
        return self._failures.get(tenant_id)

    async def reload(self, tenant_id: str) -> LiveModel | None:
        """As `ensure`, but a failed load is tried again at once."""
        self._absent.pop(tenant_id, None)
        return await self.ensure(tenant_id)

    async def ensure(self, tenant_id: str) -> LiveModel | None:
        """The live model of the tenant, loaded if needed; None without a loadable champion.

        A failed load is logged once, and the fallback answers. Concurrent requests share one
        load, which continues if one of them is cancelled.
        """
        model = self._models.get(tenant_id)
        if model is not None or tenant_id in self._absent:
            return model
        return await asyncio.shield(self._load_task(tenant_id))

    async def refresh(self, tenant_id: str) -> None:
        """Replace a live model whose champion has changed. Does nothing without a live model."""
        serving = await self._registry.serving(tenant_id)
        live = self._models.peek(tenant_id)
        if serving is not None and live is not None and live.version != serving.version:
            await asyncio.shield(self._load_task(tenant_id))
        elif live is not None:
            await self._held.refresh(tenant_id)
        await self.refresh_labels(tenant_id)

    async def refresh_labels(self, tenant_id: str) -> None:
        """Answer with the present labels. Does nothing without a live model."""
        if (live := self._models.peek(tenant_id)) is not None:
            live.successors = await self._store.label_successors(tenant_id)
            if (held := self._models.held(tenant_id)) is not None:
                held[1].successors = live.successors

    async def switch(self, model: LiveModel, promotion: Promotion, *, token: int | None) -> bool:
        """Compare-and-set the champion's row, then swap in its loaded, warm model and inform the analyzer.

        False, with the model closed, if the champion was not `promotion.expected`. Raises FencedOut.
        """
        version, switched = promotion.version, False
        try:
            switched = await self._store.promote(version.tenant_id, promotion, token=token)
        finally:
            if not switched:
                model.close()
        if switched:
            model.version = version.version
            await self._install(version.tenant_id, model)
            await self.refresh_labels(version.tenant_id)
            await self.announce(version)
        return switched

    async def _install(self, tenant_id: str, model: LiveModel) -> None:
        self._absent.pop(tenant_id, None)
        self._failures.pop(tenant_id, None)
        former = self._models.install(tenant_id, model)
        try:
            await self._held.refresh(tenant_id, former)
        except StoreError as error:  # the next round of polling tries again
            logger.warning("the holdback of %r cannot be read: %s", tenant_id, error)

    async def load(self, version: ModelVersion) -> LiveModel:
        """Load a version after a check of its digest; a damaged one is restored from its backup.

        Raises DigestMismatch, ModelError or UnknownVersion.
        """
        try:
            model: LiveModel = await call_in_executor(load_version, version)
            model.successors = await self._store.label_successors(version.tenant_id)
        except OSError as error:
            raise ModelError(f"the files of {version.version} cannot be read: {error}") from error
        return model

    def _load_task(self, tenant_id: str) -> asyncio.Task[LiveModel | None]:
        """The running load of the tenant's champion, or a new one."""
        task = self._loads.get(tenant_id)
        if task is None:
            task = self._loads[tenant_id] = asyncio.create_task(self._load_champion(tenant_id))
            task.add_done_callback(lambda done: self._end_load(tenant_id, done))
        return task

    def _end_load(self, tenant_id: str, task: asyncio.Task[LiveModel | None]) -> None:
        del self._loads[tenant_id]
        if not task.cancelled():
            task.exception()  # retrieved here, because every waiter may have been cancelled

    async def _load_champion(self, tenant_id: str) -> LiveModel | None:
        """Load the version that serves and swap it in. A lost provisional one is ended.

        The version is read again after the load: a deployment in between has installed a newer model, which
        must stay.
        """
        champion = await self._registry.serving(tenant_id)
        while champion is not None:
            live = self._models.get(tenant_id)
            if live is not None and live.version == champion.version:
                return live
            try:
                model = await self.load(champion)
            except KarenLearnerError as error:
                if champion.provisional and await self._has_ended(champion, error):
                    champion = await self._registry.serving(tenant_id)
                    continue
                if live is None and champion.provisional:
                    live = await self._champion_instead(tenant_id)
                self._note_failure(tenant_id, champion, live, error)
                return live
            now = await self._registry.serving(tenant_id)
            if now is not None and now.version == champion.version:
                await self._install(tenant_id, model)
                self._announce_later(champion)
                return model
            model.close()
            champion = now
        self._absent[tenant_id] = True
        return None

    async def _champion_instead(self, tenant_id: str) -> LiveModel | None:
        """The champion, while only this process cannot load the provisional version; None without it."""
        champion = await self._registry.champion(tenant_id)
        if champion is None:
            return None
        try:
            model = await self.load(champion)
        except KarenLearnerError:  # the failure of the provisional version is reported
            return None
        self._models.install(tenant_id, model)
        return model

    async def _has_ended(self, provisional: ModelVersion, damage: KarenLearnerError) -> bool:
        """End a lost provisional version. False if it is not lost, or if the store cannot be written.

        Another process may load one that this process cannot: it may lack a package or a permission.
        """
        name = provisional.version
        if not await call_in_executor(is_lost, provisional):
            return False
        try:
            await self._store.end_provisional(provisional.tenant_id, name, undo=False, token=None)
        except StoreError as error:
            logger.warning("%s is lost, and cannot be ended: %s", name, error)
            return False
        logger.warning("%s is lost, the champion serves again: %s", name, damage)
        return True

    def _note_failure(
        self, tenant_id: str, champion: ModelVersion, live: LiveModel | None, error: KarenLearnerError
    ) -> None:
        self._absent[tenant_id] = True
        known = self._failures.get(tenant_id)
        if known is None or known.version != champion.version:
            self._failures[tenant_id] = LoadFailure(champion.version, str(error), utc_now())
            answers = live.version if live is not None else "the fallback"
            logger.exception("the champion %s cannot be loaded: %s answers", champion.version, answers)

    # The analyzer ----------------------------------------------------------------------------

    async def announce(self, version: ModelVersion) -> None:
        """Call the analyzer's `on_deployed`, unless its last call was for this version."""
        if self._announced.get(version.tenant_id) == version.version:
            return
        self._announced[version.tenant_id] = version.version
        try:
            await self._analyzer.on_deployed(version.version, version.path)
        except Exception:  # a host's analyzer is foreign code: the deployment is valid without it
            logger.exception("the analyzer failed on the deployment of %s", version.version)

    def _announce_later(self, version: ModelVersion) -> None:
        """Announce a version that another process deployed. The first loaded version is not announced.

        Runs as a task, so that no request waits for foreign code.
        """
        if self._announced.setdefault(version.tenant_id, version.version) != version.version:
            task = asyncio.create_task(self.announce(version))
            self._announcements.add(task)
            task.add_done_callback(self._announcements.discard)


def load_version(version: ModelVersion) -> LiveModel:
    """Verify, restore if damaged, load and warm up a version. Blocking. Raises as `intact_manifest`."""
    manifest = intact_manifest(version)
    return LiveModel.load(version.path, tasks=manifest.tasks, version=version.version)
