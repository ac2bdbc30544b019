"""Outcomes of predictions and attempts: rows that are added and removed. Only `withdraw` changes them.

On SQLite, batches go to the driver itself as one statement for all rows. The event loop only makes rows of
them, in slices, so that other tasks run between. SQLAlchemy would hold it for the whole batch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import aiosqlite
from sqlalchemy import Connection, Row, delete, or_, select, update

from karen_learner.concurrency import chunks
from karen_learner.memory import tenants
from karen_learner.memory.database import Database
from karen_learner.memory.tables import outcomes
from karen_learner.memory.types import insert
from karen_learner.records import Outcome
from karen_learner.records.base import to_micros
from karen_learner.records.outcomes import TURN_OUTCOME


def add(connection: Connection, tenant_id: str, new: Sequence[Outcome]) -> None:
    """Store outcomes. One with a stored `outcome_id` is the same outcome: nothing changes."""
    if not new:
        return
    tenant = tenants.ensure(connection, tenant_id)
    rows = [
        {
            "tenant": tenant,
            "outcome_id": one.outcome_id,
            "known_at": one.known_at,
            "body": one.model_dump(mode="json", exclude_none=True, exclude={"outcome_id", "known_at"}),
        }
        for one in new
    ]
    connection.execute(insert(connection, outcomes).on_conflict_do_nothing(), rows)


def newest(connection: Connection, tenant_id: str, *, since: datetime, limit: int) -> Sequence[Outcome]:
    """The newest `limit` outcomes that became known after `since`, oldest first."""
    here = (outcomes.c.tenant == tenants.number_of(tenant_id), outcomes.c.known_at > since)
    statement = select(outcomes).where(*here).order_by(outcomes.c.known_at.desc()).limit(limit)
    found = connection.execute(statement).all()
    return [_outcome(row) for row in reversed(found)]


def between(
    connection: Connection, tenant_id: str, end: datetime, *, after: tuple[datetime, int], size: int
) -> Sequence[tuple[int, Outcome]]:
    """The next `size` outcomes that became known before `end`, by time, after a time and a number."""
    at, seq = after
    here = (outcomes.c.tenant == tenants.number_of(tenant_id), outcomes.c.known_at < end)
    later = (outcomes.c.known_at >= at, or_(outcomes.c.known_at > at, outcomes.c.seq > seq))
    statement = select(outcomes).where(*here, *later).order_by(outcomes.c.known_at, outcomes.c.seq)
    return [(row.seq, _outcome(row)) for row in connection.execute(statement.limit(size))]


def page(
    connection: Connection, tenant_id: str, *, limit: int, after: int | None = None
) -> Sequence[tuple[int, Outcome]]:
    """The newest `limit` outcomes with their numbers; with `after`, the first ones after that number.

    In the order of their commits.
    """
    statement = select(outcomes).where(outcomes.c.tenant == tenants.number_of(tenant_id)).limit(limit)
    if after is not None:
        statement = statement.where(outcomes.c.seq > after).order_by(outcomes.c.seq)
        rows = connection.execute(statement).all()
    else:
        rows = connection.execute(statement.order_by(outcomes.c.seq.desc())).all()[::-1]
    return [(row.seq, _outcome(row)) for row in rows]


def prune(connection: Connection, tenant_id: str, *, before: datetime) -> int:
    """Remove the outcomes that became known before this time; their number."""
    here = (outcomes.c.tenant == tenants.ensure(connection, tenant_id), outcomes.c.known_at < before)
    return connection.execute(delete(outcomes).where(*here)).rowcount


def withdraw(connection: Connection, tenant: int, turn_ids: Iterable[str]) -> None:
    """Remove the corrections of turns. The scores stay for statistics."""
    for some in chunks([TURN_OUTCOME + turn_id for turn_id in turn_ids]):
        here = (outcomes.c.tenant == tenant, outcomes.c.outcome_id.in_(some))
        for row in connection.execute(select(outcomes.c.seq, outcomes.c.body).where(*here)).all():
            left = {name: value for name, value in row.body.items() if name != "actual"}
            connection.execute(update(outcomes).where(outcomes.c.seq == row.seq).values(body=left))


def _outcome(row: Row[Any]) -> Outcome:
    return Outcome(outcome_id=row.outcome_id, known_at=row.known_at, **row.body)


SLICE = 100
"""Outcomes that are serialized at once: less than a millisecond."""
INSERT = (
    "INSERT INTO outcomes (tenant, outcome_id, known_at, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
)


class OutcomeWriter:
    """Writes outcomes. Caches the numbers of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers: dict[str, int] = {}

    async def write(self, tenant_id: str, new: Sequence[Outcome]) -> None:
        """Store outcomes. One with a stored `outcome_id` is the same outcome: nothing changes."""
        if not new:
            return
        if not self._database.is_sqlite:
            await self._database.write((tenant_id,), add, tenant_id, new)
            return
        if tenant_id not in self._numbers:
            number = await self._database.write((tenant_id,), tenants.ensure, tenant_id)
            self._numbers[tenant_id] = number
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(new), SLICE):
            rows += [_row(self._numbers[tenant_id], one) for one in new[start : start + SLICE]]
            await asyncio.sleep(0)
        await self._database.write_directly(_insert_rows, rows)


def _row(tenant: int, one: Outcome) -> tuple[Any, ...]:
    body = one.model_dump(exclude_none=True, exclude={"outcome_id", "known_at"})
    return tenant, one.outcome_id, to_micros(one.known_at), json.dumps(body)


async def _insert_rows(driver: aiosqlite.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    await driver.executemany(INSERT, rows)
