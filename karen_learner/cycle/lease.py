"""The lease of a cycle: one holder for each tenant, renewed while the cycle runs, released at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from karen_learner.contracts import MemoryStore
from karen_learner.errors import FencedOut, StoreError
from karen_learner.records import Lease

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 4


@asynccontextmanager
async def hold_lease(
    store: MemoryStore, tenant_id: str, *, owner: str, ttl: timedelta
) -> AsyncIterator[Lease | None]:
    """The tenant's lease, or None while another process holds it. Released at the end of the block."""
    acquiring = asyncio.ensure_future(store.acquire_lease(tenant_id, owner, ttl=ttl))
    try:
        yield await asyncio.shield(acquiring)
    finally:
        lease = await acquiring
        if lease is not None:
            await asyncio.shield(store.release_lease(lease))


@asynccontextmanager
async def renewing(store: MemoryStore, lease: Lease, *, ttl: timedelta) -> AsyncIterator[None]:
    """Renew the lease during the block. A lost lease cancels the block and raises FencedOut."""
    block = asyncio.current_task()
    lost = False

    async def renew() -> None:
        nonlocal lost
        while not lost:
            await asyncio.sleep(ttl.total_seconds() / RENEWALS_PER_LEASE)
            try:
                await store.renew_lease(lease, ttl=ttl)
            except FencedOut:
                lost = True
            except StoreError:
                logger.exception("the lease of %r cannot be renewed: trying again", lease.tenant_id)
        if block is not None:
            block.cancel()

    renewal = asyncio.create_task(renew())
    try:
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.wait([renewal])
    except asyncio.CancelledError:
        # uncancel takes back the cancellation by `renew`; one of the caller's own remains
        if not lost or block is None or block.uncancel():
            raise
        raise FencedOut(
            f"another process took over the cycle of {lease.tenant_id!r}: this cycle stopped"
        ) from None
