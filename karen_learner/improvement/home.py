"""The store that an analysis reads: that of a learner, or that of a home."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, cast

from pydantic import Field

from karen_learner import memory
from karen_learner.contracts import Clock, MemoryStore
from karen_learner.errors import UnknownTenant
from karen_learner.models.files import HomeLayout
from karen_learner.records import check_id, utc_now
from karen_learner.records.base import Record
from karen_learner.settings import Settings, as_settings


class AnalysisConfig(Record):
    """The analysed tenant of a home, and the limits of its metrics (see `grades.DEFAULTS`).

    `settings` is a settings file. `home` and `settings` are ignored beside a learner.
    """

    home: Path = Path()
    tenant_id: str = "default"
    settings: Path | None = None
    alert_thresholds: Mapping[str, float] = Field(default_factory=dict)


class AnalysedLearner(Protocol):
    """The part of a learner that analyses use."""

    @property
    def store(self) -> MemoryStore: ...

    @property
    def layout(self) -> HomeLayout: ...

    @property
    def settings(self) -> Settings: ...

    async def start(self) -> None: ...


class AnalysedHome:
    """Base of analyses: opens and closes the store of a home, unless there is a learner.

    Without a learner, use it with `async with`, or call `close()` at the end. Raises InvalidInput, and
    SettingsError for an unusable settings file.
    """

    def __init__(
        self,
        config: AnalysisConfig | None = None,
        *,
        learner: AnalysedLearner | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.config = config or AnalysisConfig()
        self.tenant_id = check_id(self.config.tenant_id, "tenant_id")
        self._clock = clock
        self._learner = learner
        self._own = None
        if learner is not None:
            self._settings, self._layout, self._memory = learner.settings, learner.layout, learner.store
        else:
            self._settings = as_settings(self.config.settings)
            self._layout = HomeLayout(self.config.home, self._settings.paths)
            place = self._settings.store.url or self._layout.database
            self._memory = self._own = memory.open_store(place, self._settings.store, clock=clock)
        self._store = cast("memory.SqlMemoryStore", self._memory)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the store, unless it is that of a learner. Idempotent."""
        if self._own is not None:
            await self._own.close()

    async def _start(self) -> None:
        """Raises StoreError, and UnknownTenant if the store has no data of the tenant."""
        if self._learner is not None:
            await self._learner.start()
        else:
            await self._memory.start()
        if await self._store.tenant_number(self.tenant_id) is None:
            raise UnknownTenant(f"nothing is stored for the tenant {self.tenant_id!r}")
