"""Blocks that hold a lease, and names of its holders.

The rows of leases are in `lease_rows.py`. They need SQLAlchemy, which is imported with the store only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from karen_learner.contracts import MemoryStore
from karen_learner.errors import FencedOut, StoreLocked
from karen_learner.records import CYCLE_LEASE, FILES_LEASE, Lease

UNKNOWN = "-"
"""Placeholder on systems without `/proc`: only Linux has boot ids and namespaces of process ids."""
_ENDED = ("Z", "X")
RENEWALS_PER_LEASE = 4
FILES_TTL = timedelta(seconds=60)
FILES_PATIENCE_S = 20.0
"""A clean-up takes seconds."""
_RETRY_S = 0.05
logger = logging.getLogger(__name__)


def owner_of(pid: int) -> str:
    """A new owner name for a process of this machine: `host/boot/namespace/pid/start/nonce`."""
    started, _ = _stat(pid)
    return f"{_machine()}/{pid}/{started}/{uuid.uuid4().hex[:8]}"


def holder_of(owner: str) -> str:
    """The machine and the process of an owner name, for messages."""
    if owner.count("/") != 5:
        return owner
    machine, pid, _, _ = owner.rsplit("/", 3)
    return f"{machine.split('/')[0]} (process {pid})"


def is_alive(owner: str) -> bool:
    """Whether the process of an owner name may still run.

    False only for a process of this machine whose number is free or belongs to a later process. A lease of
    any other process ends by its expiry.
    """
    if owner.count("/") != 5:
        return True
    machine, pid, started, _ = owner.rsplit("/", 3)
    if machine != _machine() or not pid.isdecimal() or os.name != "posix":
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # the process of another user, or no number of a process
        pass
    present, state = _stat(int(pid))
    return UNKNOWN in (started, present) or (present == started and state not in _ENDED)


def _machine() -> str:
    """The scope of a process id: a host, one boot of it, and a namespace of process ids.

    Containers may share the name of their host, and each has a process number 1.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        boot = namespace = UNKNOWN
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _stat(pid: int) -> tuple[str, str]:
    """Start of a process in clock ticks since the boot, and its state. See proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return UNKNOWN, UNKNOWN
    return fields[19], fields[0]


@asynccontextmanager
async def hold_files(
    store: MemoryStore, tenant_id: str, *, patience_s: float = FILES_PATIENCE_S
) -> AsyncIterator[Lease]:
    """The lease of the files of a tenant's versions, renewed during the block.

    A clean-up and a rollback hold it. So no file of a version is removed while the version becomes the
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
