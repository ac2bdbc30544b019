"""Model versions, their lineage, and the champion of each tenant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, literal, select, update

from karen_learner.memory import examples, leases, tenants
from karen_learner.memory.dialects import chunks, insert
from karen_learner.memory.tables import examples as example_rows
from karen_learner.memory.tables import heard_turns, lineage, versions
from karen_learner.memory.tables import tenants as tenant_rows
from karen_learner.memory.tables import turns as turn_rows
from karen_learner.records import ModelVersion, Promotion


def next_number(connection: Connection, tenant_id: str) -> int:
    """A number that is given once."""
    tenant = tenants.ensure(connection, tenant_id)
    statement = (
        update(tenant_rows)
        .where(tenant_rows.c.tenant == tenant)
        .values(last_version_number=tenant_rows.c.last_version_number + 1)
        .returning(tenant_rows.c.last_version_number)
    )
    number: int = connection.execute(statement).scalar_one()
    return number


def promote(connection: Connection, tenant_id: str, promotion: Promotion, token: int | None) -> bool:
    """Compare-and-set the champion, with all that becomes true with it. Raises FencedOut."""
    tenant = tenants.ensure(connection, tenant_id)
    leases.check(connection, tenant, tenant_id, token)
    version, before = promotion.version, promotion.expected
    if not _set_champion(connection, tenant, promotion.expected, version.version):
        return False
    number = _write_version(connection, tenant, version)
    if before is not None and version.parent != before:
        _undo(connection, tenant, before, restored=version.version)
    examples.learn(connection, tenant, promotion.learned, version.version)
    learned = (example.example_id for example in promotion.learned)
    _write_lineage(connection, tenant, number, [*learned, *promotion.replayed])
    _write_heard(connection, tenant, number, promotion.pseudo_labelled)
    return True


def champion(connection: Connection, tenant_id: str) -> ModelVersion | None:
    """The version in force."""
    statement = _bodies(tenant_id).join(
        tenant_rows,
        (tenant_rows.c.tenant == versions.c.tenant) & (tenant_rows.c.champion == versions.c.version),
    )
    return _record(connection.execute(statement).scalar())


def newest(connection: Connection, tenant_id: str, limit: int) -> Sequence[ModelVersion]:
    """The last `limit` versions, newest first."""
    statement = _bodies(tenant_id).order_by(versions.c.seq.desc()).limit(limit)
    return [ModelVersion.model_validate_json(body) for body in connection.execute(statement).scalars()]


def find(connection: Connection, tenant_id: str, version: str) -> ModelVersion | None:
    """One version by name."""
    return _record(connection.execute(_bodies(tenant_id).where(versions.c.version == version)).scalar())


def lineage_page(
    connection: Connection, tenant_id: str, version: str, *, after: int, size: int
) -> Sequence[tuple[int, str]]:
    """The next examples of a version's lineage after the number `after`, as numbers and ids."""
    ids = select(lineage.c.example, example_rows.c.example_id).join(
        example_rows, example_rows.c.seq == lineage.c.example
    )
    return _page(connection, ids, lineage, tenant_id, version, after=after, size=size)


def heard_page(
    connection: Connection, tenant_id: str, version: str, *, after: int, size: int
) -> Sequence[tuple[int, str]]:
    """The next turns that a version heard after the number `after`, as numbers and ids."""
    ids = select(heard_turns.c.turn, turn_rows.c.turn_id).join(
        turn_rows, turn_rows.c.seq == heard_turns.c.turn
    )
    return _page(connection, ids, heard_turns, tenant_id, version, after=after, size=size)


def _page(
    connection: Connection,
    ids: Select[Any],
    links: Table,
    tenant_id: str,
    version: str,
    *,
    after: int,
    size: int,
) -> Sequence[tuple[int, str]]:
    """`ids` selects, out of the `links` of versions to other things, their numbers and their ids."""
    number = ids.selected_columns[0]
    statement = (
        ids.join(versions, versions.c.seq == links.c.version)
        .where(
            versions.c.tenant == tenants.number_of(tenant_id),
            versions.c.version == version,
            number > after,
        )
        .order_by(number)
        .limit(size)
    )
    return [(row[0], row[1]) for row in connection.execute(statement)]


def _set_champion(connection: Connection, tenant: int, expected: str | None, version: str) -> bool:
    present = tenant_rows.c.champion
    believed = present.is_(None) if expected is None else present == expected
    statement = update(tenant_rows).where(tenant_rows.c.tenant == tenant, believed).values(champion=version)
    return connection.execute(statement).rowcount == 1


def _write_version(connection: Connection, tenant: int, version: ModelVersion) -> int:
    body = json.dumps(version.to_dict())
    statement = insert(connection, versions).values(tenant=tenant, version=version.version, body=body)
    connection.execute(statement.on_conflict_do_nothing())
    here = (versions.c.tenant == tenant, versions.c.version == version.version)
    number: int = connection.execute(select(versions.c.seq).where(*here)).scalar_one()
    return number


def _undo(connection: Connection, tenant: int, before: str, *, restored: str) -> None:
    """Make pending again what was learned in the champion before or its ancestors, and is not known to
    the restored version: what that one or its ancestors were trained on."""
    found = connection.execute(select(versions.c.seq, versions.c.body).where(versions.c.tenant == tenant))
    known = {record.version: (seq, record) for seq, body in found if (record := _record(body)) is not None}
    parents = {name: record.parent for name, (_, record) in known.items()}
    kept = set(_line(parents, restored))
    for name in _line(parents, before):
        if name not in kept:
            trained_on = select(lineage.c.example).where(lineage.c.version == known[name][0])
            examples.unlearn(connection, tenant, name, connection.execute(trained_on).scalars().all())


def _line(parents: Mapping[str, str | None], version: str | None) -> list[str]:
    """A version and its ancestors, as far as they are known."""
    line: list[str] = []
    while version is not None and version in parents and version not in line:
        line.append(version)
        version = parents[version]
    return line


def _write_lineage(connection: Connection, tenant: int, number: int, example_ids: Sequence[str]) -> None:
    for piece in chunks(list(dict.fromkeys(example_ids))):
        known = select(literal(number), example_rows.c.seq).where(
            example_rows.c.tenant == tenant, example_rows.c.example_id.in_(piece)
        )
        statement = insert(connection, lineage).from_select(["version", "example"], known)
        connection.execute(statement.on_conflict_do_nothing())


def _write_heard(connection: Connection, tenant: int, number: int, seqs: Sequence[int]) -> None:
    for piece in chunks(list(dict.fromkeys(seqs))):
        known = select(literal(number), turn_rows.c.seq).where(
            turn_rows.c.tenant == tenant, turn_rows.c.seq.in_(piece)
        )
        statement = insert(connection, heard_turns).from_select(["version", "turn"], known)
        connection.execute(statement.on_conflict_do_nothing())


def _bodies(tenant_id: str) -> Select[str]:
    return select(versions.c.body).where(versions.c.tenant == tenants.number_of(tenant_id))


def _record(body: str | None) -> ModelVersion | None:
    return None if body is None else ModelVersion.model_validate_json(body)
