"""Looks after what is served: another process may deploy, roll back, or die in a cycle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from karen_learner.deployment.serving import Serving
from karen_learner.models.live import LiveModels
from karen_learner.settings import ServingSettings

logger = logging.getLogger(__name__)


class ChampionSync:
    """Serves tenants, and goes on serving what their champions' rows say."""

    def __init__(
        self,
        serving: Serving,
        models: LiveModels,
        settings: ServingSettings,
        *,
        recover: Callable[[str], Awaitable[object]],
    ) -> None:
        self._serving = serving
        self._recover = recover
        self._models = models
        self._settings = settings
        self._served: set[str] = set()
        self._rounds: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after those who are served."""
        self._rounds = asyncio.create_task(self._go_round())

    async def close(self) -> None:
        """End it, and let what is being loaded arrive. Idempotent."""
        if self._rounds is not None:
            self._rounds.cancel()
            with suppress(asyncio.CancelledError):
                await self._rounds
        await self._serving.close()

    async def serve(self, tenant_id: str) -> None:
        """Have the tenant's champion live, if there is one, and follow it from now on."""
        if await self._serving.ensure(tenant_id) is not None:
            self._served.add(tenant_id)

    async def _go_round(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_s)
            for tenant_id in list(self._served):
                if self._models.peek(tenant_id) is None:  # gave way to others: its next request loads it
                    self._served.discard(tenant_id)
                    continue
                try:
                    await self._serving.refresh(tenant_id)
                    await self._recover(tenant_id)
                except Exception:  # whatever it is, following goes on: the next round may be well again
                    logger.exception("could not look after the champion of %r", tenant_id)
