"""The journal of learning cycles, and the leases that fence the writes of former holders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from karen_learner.errors import FencedOut, InvalidInput, StoreError
from karen_learner.memory import counters, tenants
from karen_learner.memory.counters import change, cycle_counts
from karen_learner.memory.process_identity import is_alive
from karen_learner.memory.tables import IS_UNFINISHED, cycles, leases
from karen_learner.memory.tables import tenants as names
from karen_learner.memory.types import insert
from karen_learner.records import CYCLE_LEASE, CycleRow, LearningCycleResult, Lease, Stage

_FIELDS = [column for column in cycles.c if column.name in CycleRow.model_fields]
_ROWS = select(*_FIELDS, names.c.name.label("tenant_id")).join_from(
    cycles, names, cycles.c.tenant == names.c.tenant
)


def start(connection: Connection, row: CycleRow) -> None:
    """Insert the row of a new cycle. Raises InvalidInput if it exists."""
    tenant = tenants.ensure(connection, row.tenant_id)
    statement = insert(connection, cycles).values(tenant=tenant, **_values(row)).on_conflict_do_nothing()
    if not connection.execute(statement).rowcount:
        raise InvalidInput(f"the cycle {row.cycle_id!r} of {row.tenant_id!r} is in the journal already")
    counters.add(connection, {tenant: cycle_counts(row)})


def advance(connection: Connection, tenant_id: str, cycle_id: str, stage: Stage, *, token: int) -> None:
    """Write the stage that begins. Raises FencedOut, or StoreError for an unknown cycle."""
    check_lease(connection, tenant_id, token)
    _replace(connection, _require(connection, tenant_id, cycle_id), {"stage": stage})


def finish(
    connection: Connection,
    tenant_id: str,
    cycle_id: str,
    result: LearningCycleResult,
    stage: Stage,
    now: datetime,
) -> None:
    """Write the end of a cycle. A repeated call replaces the result and keeps the first end."""
    row = _require(connection, tenant_id, cycle_id)
    _replace(connection, row, {"stage": stage, "result": result, "finished_at": row.finished_at or now})


def unfinished(connection: Connection, tenant_id: str) -> Sequence[CycleRow]:
    """The cycles of a tenant without an end, oldest first."""
    here = (cycles.c.tenant == tenants.number_of(tenant_id), IS_UNFINISHED)
    return _read(connection, _ROWS.where(*here).order_by(cycles.c.seq))


def unfinished_tenants(connection: Connection) -> Sequence[str]:
    """The tenants with unfinished cycles; read by the partial index."""
    found = select(cycles.c.tenant).where(IS_UNFINISHED).distinct().subquery()
    statement = select(names.c.name).join(found, names.c.tenant == found.c.tenant)
    return connection.execute(statement.order_by(names.c.tenant)).scalars().all()


def page(
    connection: Connection, tenant_id: str | None, *, limit: int = 20, since: int | None = None
) -> Sequence[CycleRow]:
    """The newest cycles, newest first; with `since` the cycles after that `seq`, oldest first."""
    statement = _ROWS if tenant_id is None else _ROWS.where(cycles.c.tenant == tenants.number_of(tenant_id))
    if since is None:
        statement = statement.order_by(cycles.c.seq.desc())
    else:
        statement = statement.where(cycles.c.seq > since).order_by(cycles.c.seq)
    return _read(connection, statement.limit(limit))


def acquire_lease(
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


def renew_lease(connection: Connection, lease: Lease, *, now: datetime, ttl: timedelta) -> Lease:
    """The lease with a later expiry. Raises FencedOut if it is lost."""
    check_lease(connection, lease.tenant_id, lease.token, name=lease.name)
    here = (leases.c.tenant == tenants.number_of(lease.tenant_id), leases.c.name == lease.name)
    connection.execute(update(leases).where(*here).values(expires_at=now + ttl))
    return lease.model_copy(update={"expires_at": now + ttl})


def release_lease(connection: Connection, lease: Lease) -> None:
    """Free a lease if it is still held. The token stays, so that the next one is larger."""
    here = (leases.c.tenant == tenants.number_of(lease.tenant_id), leases.c.name == lease.name)
    connection.execute(update(leases).where(*here, leases.c.token == lease.token).values(owner=None))


def check_lease(
    connection: Connection, tenant_id: str, token: int | None, *, name: str = CYCLE_LEASE
) -> None:
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
    expired = held.owner is None or held.expires_at <= now
    return expired or (held.owner != owner and not is_alive(held.owner))


def _lease(connection: Connection, tenant_id: str, name: str) -> Row[Any] | None:
    here = (leases.c.tenant == tenants.number_of(tenant_id), leases.c.name == name)
    return connection.execute(select(leases).where(*here)).first()


def _replace(connection: Connection, old: CycleRow, values: dict[str, Any]) -> None:
    new = old.model_copy(update=values)
    tenant = tenants.ensure(connection, old.tenant_id)
    here = (cycles.c.tenant == tenant, cycles.c.cycle_id == old.cycle_id)
    connection.execute(update(cycles).where(*here).values(**_values(new)))
    counters.add(connection, {tenant: change(cycle_counts(old), cycle_counts(new))})


def _require(connection: Connection, tenant_id: str, cycle_id: str) -> CycleRow:
    here = (cycles.c.tenant == tenants.number_of(tenant_id), cycles.c.cycle_id == cycle_id)
    found = _read(connection, _ROWS.where(*here))
    if not found:
        raise StoreError(f"no cycle {cycle_id!r} of {tenant_id!r} was started: call start_cycle first")
    return found[0]


def _values(row: CycleRow) -> dict[str, Any]:
    result = row.result and row.result.to_dict()
    return row.model_dump(exclude={"seq", "tenant_id", "result"}) | {"result": result}


def _read(connection: Connection, rows: Select[Any]) -> list[CycleRow]:
    return [CycleRow(**row._asdict()) for row in connection.execute(rows)]
