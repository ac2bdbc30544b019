"""The right to run a cycle: one holder a tenant, kept alive while it works, given back however it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from karen_learner.contracts import MemoryStore
from karen_learner.errors import FencedOut, StoreError
from karen_learner.records import Lease

logger = logging.getLogger(__name__)

HEARTBEATS_PER_LEASE = 4


@asynccontextmanager
async def leased(
    store: MemoryStore, tenant_id: str, *, owner: str, ttl: timedelta
) -> AsyncIterator[Lease | None]:
    """The tenant's lease, or None while somebody else has it. Given back however the block ends."""
    acquiring = asyncio.ensure_future(store.acquire_lease(tenant_id, owner, ttl=ttl))
    try:
        yield await asyncio.shield(acquiring)
    finally:
        lease = await acquiring
        if lease is not None:
            await asyncio.shield(store.release_lease(lease))


@asynccontextmanager
async def kept(store: MemoryStore, lease: Lease, *, ttl: timedelta) -> AsyncIterator[None]:
    """Renew the lease for as long as the block runs; cancel the block when it is lost."""
    block = asyncio.current_task()
    lost = False

    async def beat() -> None:
        nonlocal lost
        while True:
            await asyncio.sleep(ttl.total_seconds() / HEARTBEATS_PER_LEASE)
            try:
                await store.renew_lease(lease, ttl=ttl)
            except FencedOut:
                lost = True
                if block is not None:
                    block.cancel()
                return
            except StoreError:
                logger.exception("the lease of %r could not be renewed; trying again", lease.tenant_id)

    heart = asyncio.create_task(beat())
    try:
        yield
    except asyncio.CancelledError:
        if not lost:
            raise
        raise FencedOut(
            f"another process has taken over the cycle of {lease.tenant_id!r}: this one stopped"
        ) from None
    finally:
        heart.cancel()
        with suppress(asyncio.CancelledError):
            await heart
