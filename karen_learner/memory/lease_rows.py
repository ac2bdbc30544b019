"""Rows of leases by tenant and name.

A lost lease fences the writes of its former holder.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update

from karen_learner.errors import FencedOut
from karen_learner.memory import tenants
from karen_learner.memory.leases import is_alive
from karen_learner.memory.tables import leases
from karen_learner.memory.types import insert
from karen_learner.records import CYCLE_LEASE, Lease
from karen_learner.records.base import to_micros


def acquire(
    connection: Connection, tenant_id: str, owner: str, *, name: str, now: datetime, ttl: timedelta
) -> Lease | None:
    """The lease, unless a running process holds it."""
    tenant = tenants.ensure(connection, tenant_id)
    held = _lease(connection, tenant_id, name)
    if held is not None and not _is_free(held, owner, now):
        return None
    token = 1 if held is None else held.token + 1
    values = {"owner": owner, "token": token, "expires_at": now + ttl}
    statement = insert(connection, leases).values(tenant=tenant, name=name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tenant", "name"], set_=values))
    return Lease(tenant_id=tenant_id, name=name, owner=owner, token=token, expires_at=now + ttl)


def held(connection: Connection, tenant_id: str, *, name: str, now: datetime) -> Lease | None:
    """The lease that a running process holds; None if it is free."""
    found = _lease(connection, tenant_id, name)
    if found is None or _is_free(found, "", now):
        return None
    return Lease(
        tenant_id=tenant_id, name=name, owner=found.owner, token=found.token, expires_at=found.expires_at
    )


def renew(connection: Connection, lease: Lease, *, now: datetime, ttl: timedelta) -> Lease:
    """The lease with a later expiry. Raises FencedOut if it is lost."""
    check(connection, lease.tenant_id, lease.token, name=lease.name)
    here = (leases.c.tenant == tenants.number_of(lease.tenant_id), leases.c.name == lease.name)
    connection.execute(update(leases).where(*here).values(expires_at=now + ttl))
    return lease.model_copy(update={"expires_at": now + ttl})


def release(connection: Connection, lease: Lease) -> None:
    """Free a lease if it is still held. The token stays, so that the next one is larger."""
    here = (leases.c.tenant == tenants.number_of(lease.tenant_id), leases.c.name == lease.name)
    connection.execute(update(leases).where(*here, leases.c.token == lease.token).values(owner=None))


def check(connection: Connection, tenant_id: str, token: int | None, *, name: str = CYCLE_LEASE) -> None:
    """Raise FencedOut unless `token` is that of the present holder. A token of None is not checked."""
    if token is None:
        return
    held = _lease(connection, tenant_id, name)
    if held is None or held.owner is None:
        holder = "no process"
    elif held.token != token:
        holder = f"{held.owner} (token {held.token})"
    else:
        return
    raise FencedOut(
        f"the lease {name!r} of {tenant_id!r} with token {token} was lost; {holder} holds it now: "
        "drop this work and start a new cycle"
    )


def _is_free(held: Row[Any], owner: str, now: datetime) -> bool:
    expired = held.owner is None or to_micros(held.expires_at) <= to_micros(now)
    return expired or (held.owner != owner and not is_alive(held.owner))


def _lease(connection: Connection, tenant_id: str, name: str) -> Row[Any] | None:
    here = (leases.c.tenant == tenants.number_of(tenant_id), leases.c.name == name)
    return connection.execute(select(leases).where(*here)).first()
