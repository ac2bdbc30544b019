"""Rows of contributions: the labels that each person gives to a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Function, Row, Select, Text, case, cast, delete, func, select
from sqlalchemy import insert as insert_into

from karen_learner.concurrency import chunks
from karen_learner.memory import tenants
from karen_learner.memory.tables import IS_UNUSABLE, Condition, examples
from karen_learner.memory.tables import contributions as rows
from karen_learner.records import Contribution, person_of
from karen_learner.records.reviews import Contributor

_FIELDS = [name for name in Contribution.model_fields if name in rows.c]
_ROWS = select(*(rows.c[name] for name in _FIELDS))


def add(connection: Connection, tenant: int, new: Sequence[Contribution]) -> None:
    """Insert contributions in order."""
    if new:
        connection.execute(insert_into(rows), [_values(each) | {"tenant": tenant} for each in new])


def remove(connection: Connection, tenant: int, numbers: Sequence[int]) -> None:
    """Delete the contributions with these `seq`."""
    for piece in chunks(numbers):
        connection.execute(delete(rows).where(rows.c.tenant == tenant, rows.c.seq.in_(piece)))


def by_key(
    connection: Connection, tenant_id: str, keys: Sequence[str]
) -> Mapping[str, tuple[Contribution, ...]]:
    """The contributions to each text, by `key`, in order of `seq`."""
    return _by_key(connection, rows.c.tenant == tenants.number_of(tenant_id), keys)


def of_texts(
    connection: Connection, tenant: int, keys: Sequence[str]
) -> Mapping[str, tuple[Contribution, ...]]:
    """The same for the number of a tenant."""
    return _by_key(connection, rows.c.tenant == tenant, keys)


def of_turns(connection: Connection, tenant: int, turn_ids: Sequence[str]) -> list[Contribution]:
    """The contributions from these turns."""
    here = (rows.c.tenant == tenant, rows.c.turn_id.in_(turn_ids))
    return _read(connection, _ROWS.where(*here))


def of_user(connection: Connection, tenant: int, user_id: str, *, limit: int) -> list[Contribution]:
    """The oldest `limit` contributions of a user."""
    here = (rows.c.tenant == tenant, rows.c.user_id == user_id)
    return _read(connection, _ROWS.where(*here).order_by(rows.c.seq).limit(limit))


def contributors(
    connection: Connection, tenant_id: str, keys: Sequence[str]
) -> Mapping[str, tuple[str, ...]]:
    """The distinct people who contributed to each text, by `key`, in order of their first contribution."""
    columns = select(rows.c.key, rows.c.user_id, rows.c.turn_id, rows.c.seq)
    found: dict[str, dict[str, None]] = {}
    for row in _of_keys(connection, columns, rows.c.tenant == tenants.number_of(tenant_id), keys):
        person = person_of(row.user_id, row.turn_id)
        if person is not None:
            found.setdefault(row.key, {})[person] = None
    return {key: tuple(people) for key, people in found.items()}


def people(connection: Connection, tenant_id: str, *, newest: int, limit: int) -> Sequence[Contributor]:
    """The people with the most turns among the `newest` contributions, most first.

    The cost depends on `newest`.
    """
    here = rows.c.tenant == tenants.number_of(tenant_id)
    recent = select(rows).where(here).order_by(rows.c.seq.desc()).limit(newest).subquery()
    joined = recent.outerjoin(
        examples, (examples.c.tenant == recent.c.tenant) & (examples.c.key == recent.c.key)
    )
    has_intent = recent.c.intent.is_not(None) & examples.c.intent.is_not(None)
    agrees = has_intent & (recent.c.intent == examples.c.intent)
    turn = func.coalesce(recent.c.turn_id, cast(recent.c.seq, Text))  # a changed meaning repeats a turn

    def count(where: Condition | None = None) -> Function[int]:
        return func.count(func.distinct(turn if where is None else case((where, turn))))

    statement = (
        select(
            recent.c.user_id,
            count().label("contributions"),
            count(has_intent).label("intents"),
            count(agrees).label("agreeing"),
            count(recent.c.reason.is_not(None)).label("unusable"),
            func.max(recent.c.occurred_at).label("last_at"),
        )
        .select_from(joined)
        .where(recent.c.user_id.is_not(None))
        .group_by(recent.c.user_id)
        .order_by(count().desc(), recent.c.user_id)
    )
    return [Contributor(**row._mapping) for row in connection.execute(statement.limit(limit))]


def unusable_page(connection: Connection, tenant_id: str, *, after: int, size: int) -> Sequence[Contribution]:
    """The next `size` contributions that cannot be learned, after the one with the number `after`."""
    here = (rows.c.tenant == tenants.number_of(tenant_id), rows.c.seq > after, IS_UNUSABLE)
    return _read(connection, _ROWS.where(*here).order_by(rows.c.seq).limit(size))


def numbers_by_key(
    connection: Connection, tenant_id: str, keys: Sequence[str]
) -> Mapping[str, tuple[int, ...]]:
    """The `seq` of each contribution to a text, by `key`, in order."""
    here = rows.c.tenant == tenants.number_of(tenant_id)
    found: dict[str, list[int]] = {}
    for row in _of_keys(connection, select(rows.c.key, rows.c.seq), here, keys):
        found.setdefault(row.key, []).append(row.seq)
    return {key: tuple(numbers) for key, numbers in found.items()}


def _by_key(
    connection: Connection, here: Condition, keys: Sequence[str]
) -> Mapping[str, tuple[Contribution, ...]]:
    found: dict[str, list[Contribution]] = {}
    for row in _of_keys(connection, _ROWS, here, keys):
        found.setdefault(row.key, []).append(_contribution(row))
    return {key: tuple(several) for key, several in found.items()}


def _of_keys(
    connection: Connection, columns: Select[Any], here: Condition, keys: Sequence[str]
) -> Iterator[Row[Any]]:
    """The rows of these keys, in order of `seq` within each key."""
    for piece in chunks(list(dict.fromkeys(keys))):
        found = connection.execute(columns.where(here, rows.c.key.in_(piece))).all()
        yield from sorted(found, key=lambda row: row.seq)


def _values(contribution: Contribution) -> dict[str, Any]:
    return {
        **{name: getattr(contribution, name) for name in _FIELDS if name != "seq"},
        "entities": contribution.entity_rows,
    }


def _read(connection: Connection, statement: Select[Any]) -> list[Contribution]:
    return [_contribution(row) for row in connection.execute(statement)]


def _contribution(row: Row[Any]) -> Contribution:
    return Contribution(**row._asdict())
