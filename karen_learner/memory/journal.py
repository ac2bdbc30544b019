"""The journal of learning cycles."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, Text, cast, select, update

from karen_learner.errors import InvalidInput, StoreError
from karen_learner.memory import counters, lease_rows, tenants
from karen_learner.memory.counters import change, cycle_counts
from karen_learner.memory.tables import IS_UNFINISHED, cycles
from karen_learner.memory.tables import tenants as names
from karen_learner.memory.types import insert
from karen_learner.records import CycleRow, LearningCycleResult, Stage

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
    lease_rows.check(connection, tenant_id, token)
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


def last_decision(connection: Connection, tenant_id: str) -> CycleRow | None:
    """The newest cycle with a verdict that spent or kept risk; None without one."""
    decided = cast(cycles.c.result, Text).like('%"spent"%')
    here = (cycles.c.tenant == tenants.number_of(tenant_id), cycles.c.result.is_not(None), decided)
    found = _read(connection, _ROWS.where(*here).order_by(cycles.c.seq.desc()).limit(1))
    return found[0] if found else None


def find(connection: Connection, tenant_id: str, cycle_id: str) -> CycleRow | None:
    """The row of a cycle; None for an unknown one."""
    here = (cycles.c.tenant == tenants.number_of(tenant_id), cycles.c.cycle_id == cycle_id)
    found = _read(connection, _ROWS.where(*here))
    return found[0] if found else None


def _replace(connection: Connection, old: CycleRow, values: dict[str, Any]) -> None:
    new = old.model_copy(update=values)
    tenant = tenants.ensure(connection, old.tenant_id)
    here = (cycles.c.tenant == tenant, cycles.c.cycle_id == old.cycle_id)
    connection.execute(update(cycles).where(*here).values(**_values(new)))
    counters.add(connection, {tenant: change(cycle_counts(old), cycle_counts(new))})


def _require(connection: Connection, tenant_id: str, cycle_id: str) -> CycleRow:
    found = find(connection, tenant_id, cycle_id)
    if found is None:
        raise StoreError(f"no cycle {cycle_id!r} of {tenant_id!r} was started: call start_cycle first")
    return found


def _values(row: CycleRow) -> dict[str, Any]:
    result = row.result and row.result.to_dict()
    return row.model_dump(exclude={"seq", "tenant_id", "result"}) | {"result": result}


def _read(connection: Connection, rows: Select[Any]) -> list[CycleRow]:
    return [CycleRow(**row._asdict()) for row in connection.execute(rows)]
