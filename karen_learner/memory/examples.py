"""Rows of examples and groups. Every write updates the groups and counters of its examples.

A group of near-duplicates keeps its split as long as it has members. Its key is a digest of text, so its
row is deleted with its last member.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    select,
    union_all,
    update,
)

from karen_learner.memory import counters, tenants
from karen_learner.memory.counters import change, example_counts, total
from karen_learner.memory.tables import IS_REPLAYABLE, Condition, examples, groups
from karen_learner.memory.types import chunks, from_micros, insert, to_micros
from karen_learner.records import NO_CONSENT, Example, ExampleState, Split

_SAME_NAME = (
    "example_id",
    "text",
    "intent",
    "sentiment",
    "source",
    "quality",
    "key",
    "stratum",
    "split",
    "state",
    "users",
    "user_id",
    "turn_id",
    "draw",
    "rejections",
    "reason",
    "learned_in",
)
"""Columns that store the field of the same name unchanged."""

_KEY = ("tenant", "example_id")


@dataclass(frozen=True)
class ExampleFilter:
    """Filter and order of the examples in `page`. `split` None: all splits."""

    tenant_id: str
    state: ExampleState
    split: Split | None
    newest_first: bool


def write(connection: Connection, tenant: int, old: Sequence[Example], new: Sequence[Example]) -> None:
    """Insert or replace the examples `new`; `old` are the present rows with the same ids."""
    if not new:
        return
    statement = insert(connection, examples)
    rows = [_values(example) | {"tenant": tenant} for example in new]
    updated = {name: statement.excluded[name] for name in rows[0] if name not in _KEY}
    connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=updated), rows)
    _join_groups(connection, tenant, [example for example in new if _is_member(example)])
    _leave_groups(connection, tenant, Counter(example.group for example in old if _is_member(example)))
    before = {example.example_id: example for example in old}
    changes = (
        change(example_counts(before.get(example.example_id)), example_counts(example)) for example in new
    )
    counters.add(connection, {tenant: total(changes)})


def find(connection: Connection, *where: Condition) -> list[Example]:
    """The examples that meet all conditions."""
    return [_record(row) for row in connection.execute(select(examples).where(*where))]


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


def page(
    connection: Connection, wanted: ExampleFilter, *, beyond: int | None, size: int
) -> Sequence[Example]:
    """The next `size` examples beyond the number `beyond`, in order of `seq`.

    For all splits, the first examples of each split are merged: the index orders by `seq` within a split.
    """
    splits = get_args(Split) if wanted.split is None else (wanted.split,)
    parts = [_part(wanted, split, beyond).limit(size).subquery() for split in splits]
    merged = union_all(*map(select, parts)).subquery()
    statement = select(merged).order_by(_order(wanted, merged.c.seq)).limit(size)
    return [_record(row) for row in connection.execute(statement)]


def sample(
    connection: Connection, tenant_id: str, stratum: str, *, limit: int, from_draw: float
) -> Sequence[Example]:
    """Learned training examples in order of `draw` from `from_draw` on, continued from the smallest draw."""
    here = (examples.c.tenant == tenants.number_of(tenant_id), examples.c.stratum == stratum, IS_REPLAYABLE)
    found: list[Example] = []
    for in_range in (examples.c.draw >= from_draw, examples.c.draw < from_draw):
        if len(found) < limit:
            statement = select(examples).where(*here, in_range).order_by(examples.c.draw)
            rows = connection.execute(statement.limit(limit - len(found)))
            found += [_record(row) for row in rows]
    return found


def splits(connection: Connection, tenant_id: str, group_keys: Sequence[str]) -> Mapping[str, Split]:
    """The split of each stored group among these."""
    here = groups.c.tenant == tenants.number_of(tenant_id)
    found: dict[str, Split] = {}
    for piece in chunks(list(dict.fromkeys(group_keys))):
        statement = select(groups.c.group_key, groups.c.split).where(here, groups.c.group_key.in_(piece))
        found.update((name, split) for name, split in connection.execute(statement))
    return found


def _is_member(example: Example) -> bool:
    return example.reason != NO_CONSENT


def _join_groups(connection: Connection, tenant: int, joined: Sequence[Example]) -> None:
    members = Counter(example.group for example in joined)
    rows = [
        {"tenant": tenant, "group_key": name, "split": split, "members": members[name]}
        for name, split in {example.group: example.split for example in joined}.items()
    ]
    if rows:
        statement = insert(connection, groups)
        more = {"split": statement.excluded.split, "members": groups.c.members + statement.excluded.members}
        key = ["tenant", "group_key"]
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=more), rows)


def _leave_groups(connection: Connection, tenant: int, left: Mapping[str, int]) -> None:
    if not left:
        return
    here = (groups.c.tenant == tenant, groups.c.group_key == bindparam("name"))
    fewer = update(groups).where(*here).values(members=groups.c.members - bindparam("fewer"))
    connection.execute(fewer, [{"name": name, "fewer": count} for name, count in left.items()])
    empty = (groups.c.tenant == tenant, groups.c.members <= 0)
    for piece in chunks(list(left)):
        connection.execute(delete(groups).where(*empty, groups.c.group_key.in_(piece)))


def _part(wanted: ExampleFilter, split: Split, beyond: int | None) -> Select[Any]:
    number = examples.c.seq
    here = (
        examples.c.tenant == tenants.number_of(wanted.tenant_id),
        examples.c.state == wanted.state,
        examples.c.split == split,
    )
    statement = select(examples).where(*here).order_by(_order(wanted, number))
    if beyond is None:
        return statement
    return statement.where(number < beyond if wanted.newest_first else number > beyond)


def _order(wanted: ExampleFilter, number: ColumnElement[int]) -> ColumnElement[int]:
    return number.desc() if wanted.newest_first else number.asc()


def _values(example: Example) -> dict[str, Any]:
    spans = example.entities
    return {
        **{name: getattr(example, name) for name in _SAME_NAME},
        "entities": None if spans is None else json.dumps([[s.start, s.end, s.label] for s in spans]),
        "group_key": example.group,
        "created_at": to_micros(example.created_at),
    }


def _record(row: Row[Any]) -> Example:
    values = row._mapping
    return Example(
        **{name: values[name] for name in _SAME_NAME},
        entities=None if row.entities is None else json.loads(row.entities),
        group=row.group_key,
        created_at=from_micros(row.created_at),
        seq=row.seq,
    )
