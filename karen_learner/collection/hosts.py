"""A host's own memory: what it must offer, and how it is told of the turns that were stored."""

from __future__ import annotations

import logging

from karen_learner.contracts import HostMemory, MemoryStore

logger = logging.getLogger(__name__)


class HostNews:
    """Hands stored turns on to a host's memory, if there is one."""

    def __init__(self, store: MemoryStore, memory: HostMemory | None) -> None:
        self._store = store
        self._memory = memory

    async def tell(self, tenant_id: str, turn_id: str) -> None:
        """Hand on a turn as it is stored now. What the host raises is logged."""
        if self._memory is None:
            return
        turn = await self._store.get_turn(tenant_id, turn_id)
        if turn is None:
            return
        try:
            await self._memory.remember(turn)
        except Exception:  # a host's memory is foreign code: the turn is safe in the store
            logger.exception("the host's memory failed on turn %s", turn_id)
