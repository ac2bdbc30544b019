"""The versions that a home holds: the store's rows, with the paths where their files lie now."""

from __future__ import annotations

from collections.abc import Sequence

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.models.layout import HomeLayout
from karen_learner.records import ModelVersion


class ModelRegistry:
    """Reads versions and champions. Rows remember the paths of their day; a home may have moved since."""

    def __init__(self, store: MemoryStore, layout: HomeLayout) -> None:
        self._store = store
        self._layout = layout

    async def champion(self, tenant_id: str) -> ModelVersion | None:
        """The version that the tenant's row names."""
        version = await self._store.champion(tenant_id)
        return self._layout.placed(version) if version is not None else None

    async def get(self, tenant_id: str, version: str) -> ModelVersion | None:
        """A version by its name."""
        found = await self._store.get_version(tenant_id, version)
        return self._layout.placed(found) if found is not None else None

    async def versions(self, tenant_id: str, *, limit: int = 100) -> Sequence[ModelVersion]:
        """Newest first. Those whose files and backups are past the retention are marked as removed."""
        found = [self._layout.placed(one) for one in await self._store.versions(tenant_id, limit=limit)]
        looked_at: list[ModelVersion] = await call_in_executor(lambda: [_looked_at(one) for one in found])
        return looked_at


def _looked_at(version: ModelVersion) -> ModelVersion:
    saved = version.backup_path is not None and version.backup_path.is_file()
    return version.model_copy(update={"removed": not saved and not version.path.is_dir()})
