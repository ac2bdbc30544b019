"""Blocks that hold a lease: of the cycle of a tenant, or of the files of its versions."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from karen_learner.contracts import MemoryStore
from karen_learner.errors import FencedOut, StoreLocked
from karen_learner.memory.process_identity import holder_of, owner_of
from karen_learner.records import CYCLE_LEASE, FILES_LEASE, Lease

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 4
FILES_TTL = timedelta(seconds=60)
FILES_PATIENCE_S = 20.0
"""A clean-up takes seconds."""
_RETRY_S = 0.05


@asynccontextmanager
async def hold_files(
    store: MemoryStore, tenant_id: str, *, patience_s: float = FILES_PATIENCE_S
) -> AsyncIterator[Lease]:
    """The lease of the files of a tenant's versions, renewed during the block.

    A clean-up and a rollback hold it, so that no file of a version is removed while the version becomes the
    champion. Raises StoreLocked if it is held for longer than `patience_s`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        holding = hold_lease(store, tenant_id, owner=owner_of(os.getpid()), ttl=FILES_TTL, name=FILES_LEASE)
        async with holding as lease:
            if lease is not None:
                async with renewing(store, lease, ttl=FILES_TTL):
                    yield lease
                return
        if loop.time() >= deadline:
            held = await store.lease(tenant_id, name=FILES_LEASE)
            holder = f" by {holder_of(held.owner)}" if held is not None else ""
            raise StoreLocked(f"the files of {tenant_id!r} are in use{holder}: repeat this in a minute")
        await asyncio.sleep(_RETRY_S)


@asynccontextmanager
async def hold_lease(
    store: MemoryStore, tenant_id: str, *, owner: str, ttl: timedelta, name: str = CYCLE_LEASE
) -> AsyncIterator[Lease | None]:
    """The tenant's lease, or None while another process holds it. Released at the end of the block."""
    acquiring = asyncio.ensure_future(store.acquire_lease(tenant_id, owner, name=name, ttl=ttl))
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
            except Exception:  # the next attempt may succeed before the lease expires
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
            f"another process took over the lease {lease.name!r} of {lease.tenant_id!r}: this work stopped"
        ) from None
