"""The second live model of tenants with a holdback."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from asyncio_extras import call_in_executor

from karen_learner.contracts import Clock, MemoryStore
from karen_learner.errors import KarenLearnerError, StoreError, UnknownVersion
from karen_learner.models.backups import is_lost
from karen_learner.models.live import LiveModel, LiveModels
from karen_learner.models.versions import ModelRegistry
from karen_learner.records import Holdback, ModelVersion

logger = logging.getLogger(__name__)


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
