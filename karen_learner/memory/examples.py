"""Curated examples: the only place where their rows, and with them their counters, change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Row, Select, select, union_all

from karen_learner.memory import counters, groups, leases, tenants
from karen_learner.memory.counting import change, example_counts, total
from karen_learner.memory.dialects import chunks, insert
from karen_learner.memory.moments import from_micros, to_micros
from karen_learner.memory.tables import IS_REPLAYABLE, Condition, examples, turns
from karen_learner.records import Example, ExampleState, Split

HARMFUL = "harmful"
"""The reason of examples that are quarantined after rejections for harm."""

_PLAIN = (
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
"""Columns that hold the field of the same name as it is."""

_KEPT = ("tenant", "example_id")


def save(connection: Connection, tenant: int, upserts: Sequence[Example]) -> None:
    """Write examples, new or in the place of those with the same `example_id`.

    Curation may have read a turn before its user withdrew consent; an example of such a turn is kept
    out of use and without its words.
    """
    for piece in chunks(list({example.example_id: example for example in upserts}.values())):
        refused = _without_words(
            connection, tenant, [example.turn_id for example in piece if example.turn_id]
        )
        new = [example.without_content() if example.turn_id in refused else example for example in piece]
        old = _by_ids(connection, tenant, [example.example_id for example in new])
        _write(connection, tenant, old, new)


def withdraw(connection: Connection, tenant: int, turn_ids: Sequence[str]) -> None:
    """Take the words of every example made from these turns, and put it out of use."""
    for piece in chunks(turn_ids):
        found = _select(connection, examples.c.tenant == tenant, examples.c.turn_id.in_(piece))
        _write(connection, tenant, found, [example.without_content() for example in found])


def reject(
    connection: Connection,
    tenant_id: str,
    trained: Sequence[Example],
    *,
    harmful: bool,
    quarantine_at: int,
    token: int | None,
) -> int:
    """Count a harmful rejection on pending examples; the number of examples that this quarantined."""
    tenant = tenants.ensure(connection, tenant_id)
    leases.check(connection, tenant, tenant_id, token)
    if not harmful:
        return 0
    quarantined = 0
    for piece in _pieces(trained):
        old = [example for example in _as_trained(connection, tenant, piece) if not example.is_gold]
        new = [_rejected(example, quarantine_at) for example in old]
        _write(connection, tenant, old, new)
        quarantined += sum(example.state == "quarantined" for example in new)
    return quarantined


def learn(connection: Connection, tenant: int, trained: Sequence[Example], version: str) -> None:
    """Those that are still pending, and say what was trained on, become `learned`."""
    learned = {"state": "learned", "learned_in": version, "reason": None}
    for piece in _pieces(trained):
        old = _as_trained(connection, tenant, piece)
        _write(connection, tenant, old, [example.model_copy(update=learned) for example in old])


def unlearn(connection: Connection, tenant: int, version: str, numbers: Sequence[int]) -> None:
    """Of these examples, those that were learned in the version become `pending` again."""
    pending = {"state": "pending", "learned_in": None, "reason": None}
    for piece in chunks(numbers):
        here = (examples.c.tenant == tenant, examples.c.seq.in_(piece))
        old = _select(connection, *here, examples.c.state == "learned", examples.c.learned_in == version)
        _write(connection, tenant, old, [example.model_copy(update=pending) for example in old])


def by_key(connection: Connection, tenant_id: str, keys: Sequence[str]) -> Mapping[str, Example]:
    """Examples by `key`; the newest, should several have the same."""
    here = examples.c.tenant == tenants.number_of(tenant_id)
    found: list[Example] = []
    for piece in chunks(list(dict.fromkeys(keys))):
        found += _select(connection, here, examples.c.key.in_(piece))
    return {example.key: example for example in sorted(found, key=lambda example: example.seq or 0)}


@dataclass(frozen=True)
class Wanted:
    """Which examples are read, and from which end. `split` None: of all splits."""

    tenant_id: str
    state: ExampleState
    split: Split | None
    newest_first: bool


def page(connection: Connection, wanted: Wanted, *, beyond: int | None, size: int) -> Sequence[Example]:
    """The next `size` examples beyond the number `beyond`, in order of `seq`.

    Of all splits: the first of each, merged, since the index orders by `seq` only within a split.
    """
    splits = get_args(Split) if wanted.split is None else (wanted.split,)
    parts = [_part(wanted, split, beyond).limit(size).subquery() for split in splits]
    merged = union_all(*map(select, parts)).subquery()
    statement = select(merged).order_by(_order(wanted, merged.c.seq)).limit(size)
    return [_record(row) for row in connection.execute(statement)]


def sample(
    connection: Connection, tenant_id: str, stratum: str, *, limit: int, from_draw: float
) -> Sequence[Example]:
    """Learned training examples by `draw` from `from_draw` on, going round at the end."""
    here = (
        examples.c.tenant == tenants.number_of(tenant_id),
        examples.c.stratum == stratum,
        IS_REPLAYABLE,
    )
    found = _first(connection, limit, *here, examples.c.draw >= from_draw)
    if len(found) < limit:
        found += _first(connection, limit - len(found), *here, examples.c.draw < from_draw)
    return found


def _write(connection: Connection, tenant: int, old: Sequence[Example], new: Sequence[Example]) -> None:
    if not new:
        return
    statement = insert(connection, examples)
    rows = [_values(example) | {"tenant": tenant} for example in new]
    updated = {name: statement.excluded[name] for name in rows[0] if name not in _KEPT}
    connection.execute(statement.on_conflict_do_update(index_elements=_KEPT, set_=updated), rows)
    groups.follow(connection, tenant, old, new)
    before = {example.example_id: example for example in old}
    changes = (
        change(example_counts(before.get(example.example_id)), example_counts(example)) for example in new
    )
    counters.add(connection, {tenant: total(changes)})


def _pieces(trained: Sequence[Example]) -> Iterator[Sequence[Example]]:
    return chunks(list({example.example_id: example for example in trained}.values()))


def _as_trained(connection: Connection, tenant: int, trained: Sequence[Example]) -> list[Example]:
    """The rows of those that are pending, and whose words and labels are what was trained on.

    Later feedback may have given one another label since, or its user has withdrawn consent.
    """
    said = {example.example_id: _word(example) for example in trained}
    found = _by_ids(connection, tenant, list(said))
    return [row for row in found if row.state == "pending" and _word(row) == said[row.example_id]]


def _word(example: Example) -> tuple[object, ...]:
    return example.text, example.intent, example.sentiment, example.entities


def _rejected(example: Example, quarantine_at: int) -> Example:
    rejections = example.rejections + 1
    if rejections < quarantine_at:
        return example.model_copy(update={"rejections": rejections})
    return example.model_copy(update={"rejections": rejections, "state": "quarantined", "reason": HARMFUL})


def _without_words(connection: Connection, tenant: int, turn_ids: Sequence[str]) -> set[str]:
    here = (turns.c.tenant == tenant, turns.c.turn_id.in_(turn_ids), ~turns.c.has_words)
    return set(connection.execute(select(turns.c.turn_id).where(*here)).scalars())


def _by_ids(connection: Connection, tenant: int, example_ids: Sequence[str]) -> list[Example]:
    return _select(connection, examples.c.tenant == tenant, examples.c.example_id.in_(example_ids))


def _part(wanted: Wanted, split: Split, beyond: int | None) -> Select[Any]:
    number = examples.c.seq
    statement = _where(
        examples.c.tenant == tenants.number_of(wanted.tenant_id),
        examples.c.state == wanted.state,
        examples.c.split == split,
    ).order_by(_order(wanted, number))
    if beyond is None:
        return statement
    return statement.where(number < beyond if wanted.newest_first else number > beyond)


def _order(wanted: Wanted, number: ColumnElement[int]) -> ColumnElement[int]:
    return number.desc() if wanted.newest_first else number.asc()


def _first(connection: Connection, limit: int, *where: Condition) -> list[Example]:
    statement = _where(*where).order_by(examples.c.draw).limit(limit)
    return [_record(row) for row in connection.execute(statement)]


def _select(connection: Connection, *where: Condition) -> list[Example]:
    return [_record(row) for row in connection.execute(_where(*where))]


def _where(*where: Condition) -> Select[Any]:
    return select(examples).where(*where)


def _values(example: Example) -> dict[str, Any]:
    spans = example.entities
    return {
        **{name: getattr(example, name) for name in _PLAIN},
        "entities": None if spans is None else json.dumps([[s.start, s.end, s.label] for s in spans]),
        "group_key": example.group,
        "created_at": to_micros(example.created_at),
    }


def _record(row: Row[Any]) -> Example:
    values = row._mapping
    return Example(
        **{name: values[name] for name in _PLAIN},
        entities=None if row.entities is None else json.loads(row.entities),
        group=row.group_key,
        created_at=from_micros(row.created_at),
        seq=row.seq,
    )
