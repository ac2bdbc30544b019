"""The journal of learning cycles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from karen_learner.errors import InvalidInput, StoreError
from karen_learner.memory import counters, leases, tenants
from karen_learner.memory.counting import change, cycle_counts
from karen_learner.memory.moments import from_micros, to_micros
from karen_learner.memory.tables import IS_UNFINISHED, cycles
from karen_learner.memory.tables import tenants as names
from karen_learner.records import CycleRow, LearningCycleResult, Stage


def start(connection: Connection, row: CycleRow) -> None:
    """Write a new line. Raises InvalidInput when the cycle has one."""
    tenant = tenants.ensure(connection, row.tenant_id)
    if _find(connection, row.tenant_id, row.cycle_id) is not None:
        raise InvalidInput(f"the cycle {row.cycle_id!r} of {row.tenant_id!r} is in the journal already")
    connection.execute(insert(cycles).values(tenant=tenant, **_values(row)))
    counters.add(connection, {tenant: cycle_counts(row)})


def advance(connection: Connection, tenant_id: str, cycle_id: str, stage: Stage, token: int) -> None:
    """Note the stage that begins. Raises FencedOut, or StoreError for a cycle never started."""
    leases.check(connection, tenants.find(connection, tenant_id), tenant_id, token)
    _replace(connection, _require(connection, tenant_id, cycle_id), {"stage": stage})


def finish(
    connection: Connection,
    tenant_id: str,
    cycle_id: str,
    result: LearningCycleResult,
    stage: Stage,
    now: datetime,
) -> None:
    """Note the end of a cycle. Again is allowed: the later result counts, the first end stays."""
    row = _require(connection, tenant_id, cycle_id)
    update = {"stage": stage, "result": result, "finished_at": row.finished_at or now}
    _replace(connection, row, update)


def unfinished(connection: Connection, tenant_id: str) -> Sequence[CycleRow]:
    """The cycles that have begun and not ended, the oldest first."""
    statement = _rows().where(cycles.c.tenant == tenants.number_of(tenant_id), IS_UNFINISHED)
    return [_record(row) for row in connection.execute(statement.order_by(cycles.c.seq))]


def newest(connection: Connection, tenant_id: str | None, limit: int) -> Sequence[CycleRow]:
    """The last `limit` cycles, newest first."""
    statement = _rows().order_by(cycles.c.seq.desc()).limit(limit)
    if tenant_id is not None:
        statement = statement.where(cycles.c.tenant == tenants.number_of(tenant_id))
    return [_record(row) for row in connection.execute(statement)]


def _replace(connection: Connection, old: CycleRow, values: dict[str, Any]) -> None:
    new = old.model_copy(update=values)
    tenant = tenants.ensure(connection, old.tenant_id)
    here = (cycles.c.tenant == tenant, cycles.c.cycle_id == old.cycle_id)
    connection.execute(update(cycles).where(*here).values(**_values(new)))
    counters.add(connection, {tenant: change(cycle_counts(old), cycle_counts(new))})


def _require(connection: Connection, tenant_id: str, cycle_id: str) -> CycleRow:
    row = _find(connection, tenant_id, cycle_id)
    if row is None:
        raise StoreError(f"no cycle {cycle_id!r} of {tenant_id!r} was started: call start_cycle first")
    return row


def _find(connection: Connection, tenant_id: str, cycle_id: str) -> CycleRow | None:
    here = (cycles.c.tenant == tenants.number_of(tenant_id), cycles.c.cycle_id == cycle_id)
    row = connection.execute(_rows().where(*here)).first()
    return None if row is None else _record(row)


def _rows() -> Select[Any]:
    return select(cycles, names.c.name).join_from(cycles, names, cycles.c.tenant == names.c.tenant)


def _values(row: CycleRow) -> dict[str, Any]:
    return {
        "cycle_id": row.cycle_id,
        "mode": row.mode,
        "reason": row.reason,
        "stage": row.stage,
        "token": row.token,
        "started_at": to_micros(row.started_at),
        "finished_at": None if row.finished_at is None else to_micros(row.finished_at),
        "result": None if row.result is None else _json(row.result),
    }


def _json(result: LearningCycleResult) -> str:
    # Not `model_dump_json`, which makes null of a NaN: the line could not be read again.
    return json.dumps(result.to_dict())


def _record(row: Row[Any]) -> CycleRow:
    return CycleRow(
        cycle_id=row.cycle_id,
        tenant_id=row.name,
        mode=row.mode,
        reason=row.reason,
        stage=row.stage,
        token=row.token,
        started_at=from_micros(row.started_at),
        finished_at=None if row.finished_at is None else from_micros(row.finished_at),
        result=None if row.result is None else LearningCycleResult.model_validate_json(row.result),
    )
