"""Rows of turns: reading them, and marking them as curated. (Written by `turn_writer`.)"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, or_, select, update

from karen_learner.concurrency import chunks
from karen_learner.memory import counters, tenants
from karen_learner.memory.tables import IS_AWAITING, Condition, turns
from karen_learner.records import AwaitingTurn, Turn
from karen_learner.records.base import to_micros

Place = tuple[int, str]
"""Key of a turn: the number of its tenant, and its `turn_id`."""

Moments = tuple[int, int]
"""Place of a turn in time: its time in microseconds, and its `seq`."""

_NO_FEEDBACK = '%"feedback":null%'
"""The key in the JSON of a turn. In a text its quotes are escaped."""
_MOOD = '"mood":'


class StoredTurn(NamedTuple):
    """A turn (with its `seq`) and the other values of its row."""

    turn: Turn
    awaiting: bool
    revision: int


def find(connection: Connection, places: Iterable[Place]) -> dict[Place, StoredTurn]:
    """The stored turns among these."""
    wanted: dict[int, list[str]] = {}
    for tenant, turn_id in places:
        wanted.setdefault(tenant, []).append(turn_id)
    return {
        (row.tenant, row.turn_id): StoredTurn(_turn(row), row.awaiting_curation, row.revision)
        for tenant, turn_ids in wanted.items()
        for piece in chunks(turn_ids)
        for row in _rows(connection, turns.c.tenant == tenant, turns.c.turn_id.in_(piece))
    }


def of_user(connection: Connection, tenant: int, user_id: str, *, limit: int) -> dict[Place, StoredTurn]:
    """Up to `limit` turns of a user."""
    here = (turns.c.tenant == tenant, turns.c.user_id == user_id)
    return {
        (row.tenant, row.turn_id): StoredTurn(_turn(row), row.awaiting_curation, row.revision)
        for row in connection.execute(select(turns).where(*here).limit(limit))
    }


def get(connection: Connection, tenant_id: str, turn_id: str) -> Turn | None:
    """One turn."""
    here = (turns.c.tenant == tenants.number_of(tenant_id), turns.c.turn_id == turn_id)
    return next((_turn(row) for row in _rows(connection, *here)), None)


def page(connection: Connection, tenant_id: str, *, after: int, size: int) -> Sequence[Turn]:
    """The next `size` turns after the one with the number `after`."""
    return [_turn(row) for row in _page(connection, tenant_id, after, size)]


def between(
    connection: Connection,
    tenant_id: str,
    end: datetime,
    *,
    after: Moments,
    size: int,
    with_feedback: bool = False,
) -> Sequence[Turn]:
    """The next `size` turns that occurred before `end`, by time, after the place `after`."""
    at, seq = after
    here = [turns.c.tenant == tenants.number_of(tenant_id), turns.c.occurred_at < to_micros(end)]
    if with_feedback:
        here.append(turns.c.body.not_like(_NO_FEEDBACK))
    later = (turns.c.occurred_at >= at, or_(turns.c.occurred_at > at, turns.c.seq > seq))
    statement = select(turns).where(*here, *later).order_by(turns.c.occurred_at, turns.c.seq)
    return [_turn(row) for row in connection.execute(statement.limit(size))]


def count_between(connection: Connection, tenant_id: str, start: datetime, end: datetime) -> int:
    """The number of turns that occurred from `start` until `end`."""
    time = turns.c.occurred_at
    here = (turns.c.tenant == tenants.number_of(tenant_id), time >= to_micros(start), time < to_micros(end))
    return connection.execute(select(func.count()).where(*here)).scalar_one()


def place_in_time(turn: Turn) -> Moments:
    """The value of `after` that continues `between` behind this turn."""
    return to_micros(turn.metadata.occurred_at), turn.seq or 0


def awaiting_page(connection: Connection, tenant_id: str, *, after: int, size: int) -> Sequence[AwaitingTurn]:
    """The next `size` turns that await curation after the one with the number `after`."""
    rows = _page(connection, tenant_id, after, size, IS_AWAITING)
    return [AwaitingTurn(turn=_turn(row), revision=row.revision) for row in rows]


def recent_texts(connection: Connection, tenant_id: str, *, limit: int) -> Sequence[str]:
    """The distinct texts of the newest `limit` turns, newest first, without removed ones."""
    here = (turns.c.tenant == tenants.number_of(tenant_id), turns.c.has_words)
    rows = connection.execute(select(turns).where(*here).order_by(turns.c.seq.desc()).limit(limit))
    return list(dict.fromkeys(text for row in rows if (text := _turn(row).user_text)))


def newest(connection: Connection, tenant_id: str, *, limit: int) -> Sequence[Turn]:
    """The newest `limit` turns, oldest first."""
    here = turns.c.tenant == tenants.number_of(tenant_id)
    rows = connection.execute(select(turns).where(here).order_by(turns.c.seq.desc()).limit(limit)).all()
    return [_turn(row) for row in reversed(rows)]


def mark_curated(connection: Connection, tenant: int, curated: Sequence[tuple[int, int]]) -> None:
    """Mark turns (seq, revision) as curated, except those that feedback has changed since."""
    by_revision: dict[int, list[int]] = {}
    for seq, revision in curated:
        by_revision.setdefault(revision, []).append(seq)
    marked = sum(_mark(connection, tenant, seqs, revision) for revision, seqs in by_revision.items())
    counters.add(connection, {tenant: {(counters.TURNS, "awaiting_curation"): -marked}})


def _mark(connection: Connection, tenant: int, seqs: Sequence[int], revision: int) -> int:
    marked = 0
    for piece in chunks(seqs):
        here = (turns.c.tenant == tenant, turns.c.seq.in_(piece), turns.c.revision == revision, IS_AWAITING)
        marked += connection.execute(update(turns).where(*here).values(awaiting_curation=False)).rowcount
    return marked


def _page(
    connection: Connection, tenant_id: str, after: int, size: int, *where: Condition
) -> Sequence[Row[Any]]:
    here = (turns.c.tenant == tenants.number_of(tenant_id), turns.c.seq > after, *where)
    return connection.execute(select(turns).where(*here).order_by(turns.c.seq).limit(size)).all()


def _rows(connection: Connection, *where: Condition) -> Iterable[Row[Any]]:
    return connection.execute(select(turns).where(*where))


def _turn(row: Row[Any]) -> Turn:
    if _MOOD in row.body:  # earlier releases stored moods
        values = json.loads(row.body)
        values.pop("mood", None)
        return Turn.model_validate(values).with_seq(row.seq)
    return Turn.model_validate_json(row.body).with_seq(row.seq)
