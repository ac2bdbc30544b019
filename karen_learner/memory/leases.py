"""Leases: who may run a cycle, and the token that fences the writes of those who no longer may."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update

from karen_learner.errors import FencedOut
from karen_learner.memory import tenants
from karen_learner.memory.dialects import insert
from karen_learner.memory.moments import to_micros
from karen_learner.memory.owners import is_alive
from karen_learner.memory.tables import leases
from karen_learner.records import Lease

IsAlive = Callable[[str], bool]


def acquire(
    connection: Connection,
    tenant_id: str,
    owner: str,
    *,
    now: datetime,
    ttl: timedelta,
    is_alive: IsAlive = is_alive,
) -> Lease | None:
    """Take the lease of a tenant unless a living process holds it."""
    tenant = tenants.ensure(connection, tenant_id)
    held = _row(connection, tenant)
    if held is not None and not _is_free(held, now, is_alive):
        return None
    token = 1 if held is None else held.token + 1
    values = {"owner": owner, "token": token, "expires_at": to_micros(now + ttl)}
    statement = insert(connection, leases).values(tenant=tenant, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tenant"], set_=values))
    return Lease(tenant_id=tenant_id, owner=owner, token=token, expires_at=now + ttl)


def renew(connection: Connection, lease: Lease, *, now: datetime, ttl: timedelta) -> Lease:
    """Prolong a lease that is still held. Raises FencedOut."""
    tenant = tenants.find(connection, lease.tenant_id)
    check(connection, tenant, lease.tenant_id, lease.token)
    connection.execute(
        update(leases).where(leases.c.tenant == tenant).values(expires_at=to_micros(now + ttl))
    )
    return lease.model_copy(update={"expires_at": now + ttl})


def release(connection: Connection, lease: Lease) -> None:
    """Give a lease back, if it is still held. The token stays: the next one is larger."""
    connection.execute(
        update(leases)
        .where(leases.c.tenant == tenants.number_of(lease.tenant_id), leases.c.token == lease.token)
        .values(owner=None)
    )


def check(connection: Connection, tenant: int | None, tenant_id: str, token: int | None) -> None:
    """Raise FencedOut unless `token` (None: no fence was asked for) is that of the present holder."""
    if token is None:
        return
    held = None if tenant is None else _row(connection, tenant)
    if held is None or held.owner is None or held.token != token:
        holder = "nobody" if held is None or held.owner is None else f"{held.owner} (token {held.token})"
        raise FencedOut(
            f"the lease of {tenant_id!r} with token {token} was lost; {holder} holds it now: "
            "drop this work and start a new cycle"
        )


def _is_free(held: Row[Any], now: datetime, is_alive: IsAlive) -> bool:
    return held.owner is None or held.expires_at <= to_micros(now) or not is_alive(held.owner)


def _row(connection: Connection, tenant: int) -> Row[Any] | None:
    return connection.execute(select(leases).where(leases.c.tenant == tenant)).first()
