"""Rows of examples. Every write updates the counters of its examples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, asc, desc, select, true, union_all

from karen_learner.concurrency import chunks
from karen_learner.memory import counters, tenants
from karen_learner.memory.counters import change, example_counts, total
from karen_learner.memory.tables import IS_GOLD, IS_LEARNED, Condition, examples
from karen_learner.memory.types import insert
from karen_learner.records import Example, ExampleState

_SAME_NAME = [name for name in Example.model_fields if name in examples.c]
_ROWS = select(*(examples.c[name] for name in _SAME_NAME), examples.c.group_key.label("group"))

_KEY = ("tenant", "example_id")


def write(connection: Connection, tenant: int, old: Sequence[Example], new: Sequence[Example]) -> None:
    """Insert or replace the examples `new`; `old` are the present rows with the same ids."""
    if not new:
        return
    statement = insert(connection, examples)
    rows = [_values(example) | {"tenant": tenant} for example in new]
    updated = {name: statement.excluded[name] for name in rows[0] if name not in _KEY}
    connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=updated), rows)
    before, after = total(map(example_counts, old)), total(map(example_counts, new))
    counters.add(connection, {tenant: change(before, after)})


def find(connection: Connection, *where: Condition) -> list[Example]:
    """The examples that meet all conditions."""
    return _read(connection, _ROWS.where(*where))


def by_ids(connection: Connection, tenant: int, example_ids: Sequence[str]) -> list[Example]:
    """The stored examples among these."""
    return find(connection, examples.c.tenant == tenant, examples.c.example_id.in_(example_ids))


def by_key(connection: Connection, tenant_id: str, keys: Sequence[str]) -> Mapping[str, Example]:
    """Examples by `key`; the newest where several share a key."""
    here = examples.c.tenant == tenants.number_of(tenant_id)
    found: list[Example] = []
    for piece in chunks(list(dict.fromkeys(keys))):
        found += find(connection, here, examples.c.key.in_(piece))
    return {example.key: example for example in sorted(found, key=lambda example: example.seq or 0)}


def by_id(connection: Connection, tenant_id: str, example_ids: Sequence[str]) -> Mapping[str, Example]:
    """Examples by id."""
    here = examples.c.tenant == tenants.number_of(tenant_id)
    found: list[Example] = []
    for piece in chunks(list(dict.fromkeys(example_ids))):
        found += find(connection, here, examples.c.example_id.in_(piece))
    return {example.example_id: example for example in found}


def texts(connection: Connection, tenant_id: str, example_ids: Sequence[str]) -> Mapping[str, str]:
    """Texts by id, without those that were removed."""
    here = (examples.c.tenant == tenants.number_of(tenant_id), examples.c.text != "")
    found: dict[str, str] = {}
    for piece in chunks(list(dict.fromkeys(example_ids))):
        statement = select(examples.c.example_id, examples.c.text)
        rows = connection.execute(statement.where(*here, examples.c.example_id.in_(piece)))
        found.update((name, text) for name, text in rows)
    return found


def page(
    connection: Connection,
    tenant_id: str,
    state: ExampleState,
    gold: bool | None,
    newest_first: bool,
    *,
    after: int | None,
    size: int,
) -> Sequence[Example]:
    """The next `size` examples after the one with the number `after`, in order of `seq`.

    Gold and feedback together (None) are merged: the index orders each of them by `seq`.
    """
    kinds = (True, False) if gold is None else (gold,)
    number = examples.c.seq
    rows = _ROWS.where(examples.c.tenant == tenants.number_of(tenant_id), examples.c.state == state)
    if after is not None:
        rows = rows.where(number < after if newest_first else number > after)
    order = desc if newest_first else asc
    parts = [rows.where(examples.c.is_gold == kind).order_by(order(number)).limit(size) for kind in kinds]
    merged = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return _read(connection, select(merged).order_by(order(merged.c.seq)).limit(size))


def sample(
    connection: Connection,
    tenant_id: str,
    stratum: str,
    *,
    limit: int,
    from_draw: float = 0.0,
    gold_only: bool = False,
) -> Sequence[Example]:
    """Learned examples in order of `draw` from `from_draw` on, continued from the smallest draw."""
    here: tuple[Condition, ...] = (
        examples.c.tenant == tenants.number_of(tenant_id),
        examples.c.stratum == stratum,
        IS_LEARNED,
    )
    if gold_only:
        here += (examples.c.is_gold == true(),)
    found: list[Example] = []
    for in_range in (examples.c.draw >= from_draw, examples.c.draw < from_draw):
        if len(found) < limit:
            statement = _ROWS.where(*here, in_range).order_by(examples.c.draw)
            found += _read(connection, statement.limit(limit - len(found)))
    return found


def gold_groups(connection: Connection, tenant_id: str, groups: Sequence[str]) -> Collection[str]:
    """The groups among these that have a gold example."""
    here = (examples.c.tenant == tenants.number_of(tenant_id), IS_GOLD)
    found: set[str] = set()
    for piece in chunks(list(dict.fromkeys(groups))):
        statement = select(examples.c.group_key).where(*here, examples.c.group_key.in_(piece))
        found.update(connection.execute(statement).scalars())
    return found


def _values(example: Example) -> dict[str, Any]:
    return {
        **{name: getattr(example, name) for name in _SAME_NAME if name != "seq"},
        "entities": example.entity_rows,
        "group_key": example.group,
        "is_gold": example.is_gold,
    }


def _read(connection: Connection, rows: Select[Any]) -> list[Example]:
    return [Example(**row._asdict()) for row in connection.execute(rows)]
