"""The production log: rows that are added and removed; withdrawn consent removes their content."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import aiosqlite
from asyncio_extras import call_in_executor
from pydantic_core import from_json, to_json
from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    bindparam,
    delete,
    exists,
    func,
    null,
    select,
    update,
)
from sqlalchemy.dialects import sqlite

from karen_learner.concurrency import chunks
from karen_learner.memory import tenants
from karen_learner.memory.database import Database
from karen_learner.memory.tables import decisions, turns
from karen_learner.memory.types import insert
from karen_learner.records.base import to_micros
from karen_learner.records.decisions import Decision, LogEntry, LogSums

METRICS: Mapping[str, str] = {
    "confidence": "confidence",
    "processing_time": "seconds",
    "success_rate": "success",
    "quality": "quality",
    "approval_rate": "approval",
    "improvement_potential": "potential",
}
"""Metrics of log entries, and the columns that have their values. Shares are in 0 to 1."""
MAX_GROUPS = 20
COLUMNS = (
    "tenant", "key", "at", "log_type", "session_id", "user_id", "turn_id", "cluster", "method", "template",
    "confidence", "seconds", "success", "quality", "approval", "potential", "body", "reason",
)  # fmt: skip
INSERT = (
    f"INSERT INTO decisions ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "  # noqa: S608
    "ON CONFLICT DO NOTHING"
)
MAX_NAMES = 1_000
MAX_TYPES = 200
CONTENT = dict.fromkeys(("body", "template", "session_id", "user_id", "turn_id"), null())
_WITHDRAW = update(decisions).where(decisions.c.tenant == bindparam("number")).values(CONTENT)
WITHDRAW_TURN = _WITHDRAW.where(
    decisions.c.turn_id == bindparam("turn"),
    exists().where(
        turns.c.tenant == decisions.c.tenant, turns.c.turn_id == decisions.c.turn_id, ~turns.c.has_words
    ),
)
"""Removes the contents of the entries of a stored turn without words."""
WITHDRAW_ENTRY = _WITHDRAW.where(decisions.c.key == bindparam("entry"), decisions.c.body != bindparam("new"))
"""Removes the contents of a stored entry that is logged again, without consent."""
_NAMED = sqlite.dialect(paramstyle="named")
Withdrawal = tuple[Update, Sequence[Mapping[str, Any]]]
"""A statement and its parameters."""


class DecisionWriter:
    """Writes entries. On SQLite they go to the driver itself, as one statement for all rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, tenant_id: str, new: Sequence[LogEntry]) -> int:
        """Store entries. One with a stored key is the same entry. The number of new ones."""
        tenant = await self._database.write((tenant_id,), tenants.ensure, tenant_id)
        rows: list[tuple[Any, ...]] = await call_in_executor(_rows, tenant, new)
        withdrawals = list(_withdrawals(tenant, new))
        if self._database.is_sqlite:
            return await self._database.write_directly(_insert, rows, withdrawals)
        return await self._database.write((tenant_id,), _add, rows, withdrawals)


def _add(connection: Connection, rows: Sequence[tuple[Any, ...]], withdrawals: Sequence[Withdrawal]) -> int:
    values = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    statement = insert(connection, decisions).on_conflict_do_nothing().returning(decisions.c.seq)
    added = len(connection.execute(statement, values).all()) if values else 0
    for withdrawal, places in withdrawals:
        connection.execute(withdrawal, places)
    return added


async def _insert(
    driver: aiosqlite.Connection, rows: Sequence[tuple[Any, ...]], withdrawals: Sequence[Withdrawal]
) -> int:
    cursor = await driver.executemany(INSERT, rows)
    for withdrawal, places in withdrawals:
        await driver.executemany(str(withdrawal.compile(dialect=_NAMED)), places)
    return max(0, cursor.rowcount)


def _rows(tenant: int, new: Iterable[LogEntry]) -> list[tuple[Any, ...]]:
    return [(tenant, one.key, to_micros(one.at), *_values(one)) for one in new]


def _withdrawals(tenant: int, new: Iterable[LogEntry]) -> Iterator[Withdrawal]:
    """The statements that follow the insertion of entries in its transaction, with their parameters."""
    found = [(one.key, one.decision) for one in new if one.decision is not None]
    turn_ids = {decision.turn_id for _, decision in found if decision.turn_id is not None}
    if turn_ids:
        yield WITHDRAW_TURN, [{"number": tenant, "turn": turn_id} for turn_id in sorted(turn_ids)]
    refused = [(key, decision) for key, decision in found if decision.consent is False]
    if refused:
        yield WITHDRAW_ENTRY, [{"number": tenant, "entry": key, "new": _body(one)} for key, one in refused]


def _body(decision: Decision) -> str:
    return decision.model_dump_json(exclude_defaults=True)


def _values(one: LogEntry) -> tuple[Any, ...]:
    """The values of COLUMNS, without the first three."""
    if one.decision is None:
        return *(None,) * (len(COLUMNS) - 4), one.reason
    found, reasoning, labels = one.decision, one.decision.decision_reasoning, one.decision.training_labels
    potential = labels.improvement_potential
    return (
        found.log_type,
        found.session_id,
        found.user_id,
        found.turn_id,
        one.cluster,
        reasoning.method_used,
        one.template,
        reasoning.confidence_level,
        reasoning.processing_time,
        _number(reasoning.success),
        None if labels.quality_score is None else labels.quality_score / 100.0,
        _number(labels.success_indicator),
        potential / 100.0 if isinstance(potential, float) else None,
        _body(found),
        None,
    )


def _number(value: float | bool | None) -> float | None:
    return None if value is None else float(value)


def sums(
    connection: Connection, tenant_id: str, *, start: datetime, split: datetime, end: datetime
) -> Sequence[LogSums]:
    """Sums of the metrics by log type, cluster and period. The database adds them.

    Of more than `MAX_TYPES` log types, those with the most entries are summed.
    """
    after = (decisions.c.at >= to_micros(split)).label("after")
    columns = [
        part
        for name, column in METRICS.items()
        for part in (
            func.count(decisions.c[column]).label(f"{name}_count"),
            func.coalesce(func.sum(decisions.c[column]), 0.0).label(f"{name}_total"),
        )
    ]
    keys = (decisions.c.log_type, decisions.c.cluster, after)
    statement = select(*keys, func.count().label("entries"), *columns)
    here = (*_period(tenant_id, start, end), decisions.c.reason.is_(None))
    frequent = select(decisions.c.log_type).where(*here).group_by(decisions.c.log_type)
    frequent = frequent.order_by(func.count().desc(), decisions.c.log_type).limit(MAX_TYPES)
    return [
        LogSums(
            row.log_type,
            row.cluster,
            bool(row.after),
            row.entries,
            {name: row._mapping[f"{name}_count"] for name in METRICS},
            {name: float(row._mapping[f"{name}_total"]) for name in METRICS},
        )
        for row in connection.execute(
            statement.where(*here, decisions.c.log_type.in_(frequent)).group_by(*keys)
        )
    ]


def groups(
    connection: Connection, tenant_id: str, column: str, *, start: datetime, end: datetime
) -> Mapping[str, Mapping[str, float]]:
    """Share of accepted results by log type, and by method or template: the most frequent ones."""
    by = decisions.c[column]
    accepted = func.coalesce(decisions.c.approval, decisions.c.success)
    here = (*_period(tenant_id, start, end), decisions.c.reason.is_(None), by.is_not(None))
    statement = select(decisions.c.log_type, by.label("name"), func.avg(accepted).label("mean"))
    grouped = statement.where(*here, accepted.is_not(None)).group_by(decisions.c.log_type, by)
    found: dict[str, dict[str, float]] = {}
    for row in connection.execute(grouped.order_by(func.count().desc(), by).limit(MAX_NAMES)):
        group = found.setdefault(row.log_type, {})
        if len(group) < MAX_GROUPS:
            group[row.name] = float(row.mean)
    return found


def reasons(connection: Connection, tenant_id: str, *, start: datetime, end: datetime) -> Mapping[str, int]:
    """The most frequent reasons of corrupt entries of a period; the number of all others under ""."""
    reason = func.coalesce(decisions.c.reason, "").label("reason")
    statement = select(reason, func.count().label("entries")).where(*_period(tenant_id, start, end))
    grouped = statement.group_by(reason).order_by(func.count().desc()).limit(MAX_GROUPS)
    return {row.reason: row.entries for row in connection.execute(grouped)}


def bad_entries(
    connection: Connection, tenant_id: str, metric: str, *, start: datetime, end: datetime, limit: int
) -> Mapping[str, Sequence[str]]:
    """Keys of the newest entries of each log type with the worst value of a share, oldest first."""
    bad = (*_period(tenant_id, start, end), decisions.c[METRICS[metric]] == 0.0)
    newest = (decisions.c.at.desc(), decisions.c.seq.desc())
    rank = func.row_number().over(partition_by=decisions.c.log_type, order_by=newest).label("rank")
    ranked = select(decisions.c.log_type, decisions.c.key, rank).where(*bad).subquery()
    statement = select(ranked.c.log_type, ranked.c.key).where(ranked.c.rank <= limit)
    found: dict[str, list[str]] = {}
    for row in connection.execute(statement.order_by(ranked.c.rank.desc())):
        found.setdefault(row.log_type, []).append(row.key)
    return found


def erase(
    connection: Connection,
    tenant_id: str,
    *,
    user_ids: Collection[str] = (),
    session_ids: Collection[str] = (),
    turn_ids: Collection[str] = (),
    subjects: Collection[str] = (),
) -> int:
    """Remove the contents and ids of the entries of people, sessions, turns or subjects; their number.

    Their numbers stay for statistics.
    """
    tenant = tenants.ensure(connection, tenant_id)
    seqs = [number for subject in subjects for number in _numbers_of_subject(connection, tenant, subject)]
    return withdraw(
        connection, tenant, user_ids=user_ids, session_ids=session_ids, turn_ids=turn_ids, seqs=seqs
    )


def _numbers_of_subject(connection: Connection, tenant: int, subject: str) -> list[int]:
    """The rows of a subject. It is only in the JSON of an entry, so each entry of the tenant is searched."""
    written = to_json(subject).decode()
    found = select(decisions.c.seq, decisions.c.body).where(
        decisions.c.tenant == tenant, decisions.c.body.contains(written, autoescape=True)
    )
    return [row.seq for row in connection.execute(found) if from_json(row.body).get("subject") == subject]


def withdraw(connection: Connection, tenant: int, **ids: Collection[Any]) -> int:
    """As `erase`, for a tenant by its number."""
    erased = 0
    for name, values in ids.items():
        column = decisions.c[name.removesuffix("s")]
        for some in chunks(sorted(values)):
            here = (decisions.c.tenant == tenant, column.in_(some))
            erased += connection.execute(update(decisions).where(*here).values(CONTENT)).rowcount
    return erased


def get(connection: Connection, tenant_id: str, key: str) -> str | None:
    """The stored JSON of an entry; None for an unknown, corrupt or erased one."""
    here = (decisions.c.tenant == tenants.number_of(tenant_id), decisions.c.key == key)
    found: str | None = connection.execute(select(decisions.c.body).where(*here)).scalar()
    return found


def prune(connection: Connection, tenant_id: str, *, before: datetime) -> int:
    """Remove the entries before this time; their number."""
    here = (decisions.c.tenant == tenants.ensure(connection, tenant_id), decisions.c.at < to_micros(before))
    return connection.execute(delete(decisions).where(*here)).rowcount


def _period(tenant_id: str, start: datetime, end: datetime) -> tuple[ColumnElement[bool], ...]:
    here = decisions.c.tenant == tenants.number_of(tenant_id)
    return here, decisions.c.at >= to_micros(start), decisions.c.at < to_micros(end)
