"""Maintenance of a home in use: its worker, crashed cycles, its database, live models, pending examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from karen_learner.contracts import MemoryStore, TrainingBackend
from karen_learner.cycle import LearningCycle
from karen_learner.deployment import ChampionSync


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
