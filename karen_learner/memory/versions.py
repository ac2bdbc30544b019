"""Model versions, their lineage, aliases such as the champion, and the masks of their shadows.

A mask names the shadows of a generation that have learned from a group of near-duplicates or a person. A
generation is the shadows of one full training and of the incremental cycles that continue them.

The row of a tenant's holdback stays after its end, until another one begins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, literal, select, update

from karen_learner.concurrency import chunks
from karen_learner.memory import curation, journal, lease_rows, tenants
from karen_learner.memory.tables import aliases, holdbacks, lineage, masks, versions
from karen_learner.memory.tables import examples as example_rows
from karen_learner.memory.tables import tenants as tenant_rows
from karen_learner.memory.types import insert
from karen_learner.records import (
    ANCHOR,
    CHAMPION,
    PROVISIONAL,
    CycleRow,
    Holdback,
    ModelVersion,
    Promotion,
    Task,
)


def next_number(connection: Connection, tenant_id: str) -> int:
    """The next number of the tenant; each is returned once."""
    tenant = tenants.ensure(connection, tenant_id)
    statement = (
        update(tenant_rows)
        .where(tenant_rows.c.tenant == tenant)
        .values(last_version_number=tenant_rows.c.last_version_number + 1)
        .returning(tenant_rows.c.last_version_number)
    )
    number: int = connection.execute(statement).scalar_one()
    return number


def promote(connection: Connection, tenant_id: str, promotion: Promotion, *, token: int | None) -> bool:
    """Compare-and-set an alias, with all consequences. False if it is not `expected`. Raises FencedOut."""
    lease_rows.check(connection, tenant_id, token)
    tenant = tenants.ensure(connection, tenant_id)
    version, before = promotion.version, promotion.expected
    is_provisional = promotion.alias == PROVISIONAL
    if is_provisional and not _is_champion(connection, tenant, version.parent):
        return False
    if not _set_alias(connection, tenant, promotion):
        return False
    number, is_new = _write_version(connection, tenant, version)
    if promotion.alias == CHAMPION and before is not None:
        follows = is_new and version.parent == before
        _end_provisional(connection, tenant, undo=not follows)
        if not follows:
            _undo(connection, tenant, before, restored=version.version)
            _remove_holdback(connection, tenant)
        elif promotion.holdback is not None:
            _begin_holdback(connection, tenant, promotion.holdback)
    _set_anchors(connection, tenant, version.version, promotion.anchors)
    curation.learn(connection, tenant, promotion.learned, version.version)
    trained = [*(example.example_id for example in promotion.learned), *promotion.replayed]
    _link(connection, tenant, number, trained)
    add_masks(connection, tenant, promotion.generation, promotion.masks)
    if promotion.journal is not None:
        journal.start(connection, promotion.journal)
    return True


def write_note(connection: Connection, tenant_id: str, version: str, note: str | None) -> bool:
    """Write or remove the note of a version. False for an unknown version."""
    found = find(connection, tenant_id, version)
    if found is None:
        return False
    noted = found.model_copy(update={"note": note})
    here = (versions.c.tenant == tenants.number_of(tenant_id), versions.c.version == version)
    connection.execute(update(versions).where(*here).values(body=noted.to_dict()))
    return True


def end_provisional(
    connection: Connection,
    tenant_id: str,
    version: str,
    *,
    undo: bool,
    token: int | None,
    row: CycleRow | None = None,
) -> bool:
    """The champion serves again. False if the version is not provisional any more. Raises FencedOut.

    With `undo`, the pending examples of the version wait. `row` is that of a rollback.
    """
    lease_rows.check(connection, tenant_id, token)
    tenant, present = tenants.ensure(connection, tenant_id), alias(connection, tenant_id, PROVISIONAL)
    if present is None or present.version != version:
        return False
    _end_provisional(connection, tenant, undo=undo)
    if row is not None:
        journal.start(connection, row)
    return True


def alias(connection: Connection, tenant_id: str, name: str) -> ModelVersion | None:
    """The version of an alias."""
    same = (aliases.c.tenant == versions.c.tenant) & (aliases.c.version == versions.c.version)
    return _first(connection, _bodies(tenant_id).join(aliases, same).where(aliases.c.name == name))


def page(
    connection: Connection, tenant_id: str, *, limit: int = 100, since: str | None = None
) -> Sequence[ModelVersion]:
    """The newest versions, newest first; with `since` the versions after that version, oldest first."""
    statement = _bodies(tenant_id).limit(limit)
    if since is None:
        statement = statement.order_by(versions.c.seq.desc())
    else:
        here = (versions.c.tenant == tenants.number_of(tenant_id), versions.c.version == since)
        number = select(versions.c.seq).where(*here).scalar_subquery()
        statement = statement.where(versions.c.seq > number).order_by(versions.c.seq)
    return _read(connection, statement)


def find(connection: Connection, tenant_id: str, version: str) -> ModelVersion | None:
    """One version by name."""
    return _first(connection, _bodies(tenant_id).where(versions.c.version == version))


def count_undone(connection: Connection, tenant_id: str, version: str) -> int:
    """The number of examples that a rollback to the version would make wait."""
    champion, tenant = alias(connection, tenant_id, CHAMPION), tenants.find(connection, tenant_id)
    count, here = 0, example_rows.c
    if champion is not None and tenant is not None:
        for name, numbers in _undone(connection, tenant, champion.version, restored=version):
            learned = (here.seq.in_(numbers), here.learned_in == name, here.state == "learned")
            count += connection.execute(select(func.count()).where(*learned)).scalar_one()
    provisional = alias(connection, tenant_id, PROVISIONAL)
    if provisional is not None and tenant is not None and provisional.version != version:
        trained_on = _trained_on(tenant, provisional.version)
        pending = (here.seq.in_(trained_on), here.state == "pending")
        count += connection.execute(select(func.count()).where(*pending)).scalar_one()
    return count


def lineage_page(
    connection: Connection, tenant_id: str, version: str, *, after: int, size: int
) -> Sequence[Any]:
    """The next examples of a version's lineage after the one with the number `after`: `seq`, `example_id`."""
    number = lineage.c.example
    here = (versions.c.tenant == tenants.number_of(tenant_id), versions.c.version == version, number > after)
    statement = (
        select(number.label("seq"), example_rows.c.example_id)
        .join(example_rows, example_rows.c.seq == number)
        .join(versions, versions.c.seq == lineage.c.version)
        .where(*here)
    )
    return connection.execute(statement.order_by(number).limit(size)).all()


def _set_alias(connection: Connection, tenant: int, promotion: Promotion) -> bool:
    name, version = promotion.alias, promotion.version.version
    if promotion.expected is None:
        values = insert(connection, aliases).values(tenant=tenant, name=name, version=version)
        return connection.execute(values.on_conflict_do_nothing()).rowcount == 1
    here = (aliases.c.tenant == tenant, aliases.c.name == name, aliases.c.version == promotion.expected)
    return connection.execute(update(aliases).where(*here).values(version=version)).rowcount == 1


def _is_champion(connection: Connection, tenant: int, version: str | None) -> bool:
    here = (aliases.c.tenant == tenant, aliases.c.name == CHAMPION, aliases.c.version == version)
    return connection.execute(select(aliases.c.version).where(*here)).first() is not None


def _end_provisional(connection: Connection, tenant: int, *, undo: bool) -> None:
    here = (aliases.c.tenant == tenant, aliases.c.name == PROVISIONAL)
    ended = connection.execute(delete(aliases).where(*here).returning(aliases.c.version)).scalars().all()
    for version in ended if undo else ():
        trained_on = _trained_on(tenant, version)
        for numbers in curation.pages_of_numbers(connection, trained_on, lineage.c.example):
            curation.undo_pending(connection, tenant, numbers)


def _trained_on(tenant: int, version: str) -> Select[Any]:
    """The numbers of the examples that a version was trained on."""
    same = (versions.c.tenant == tenant, versions.c.version == version)
    number = select(versions.c.seq).where(*same).scalar_subquery()
    return select(lineage.c.example).where(lineage.c.version == number)


def _undo(connection: Connection, tenant: int, before: str, *, restored: str) -> None:
    """Change the examples and anchors of the versions that a rollback undoes, or makes valid again."""
    for name, numbers in _undone(connection, tenant, before, restored=restored):
        curation.unlearn(connection, tenant, name, numbers)
    for name, numbers in _undone(connection, tenant, restored, restored=before):
        curation.relearn(connection, tenant, name, numbers)
    _replace_undone_anchors(connection, tenant, restored)


def _set_anchors(connection: Connection, tenant: int, version: str, tasks: Sequence[Task]) -> None:
    for task in tasks:
        statement = insert(connection, aliases).values(tenant=tenant, name=ANCHOR + task, version=version)
        newer = {"version": statement.excluded.version}
        connection.execute(statement.on_conflict_do_update(index_elements=["tenant", "name"], set_=newer))


def _replace_undone_anchors(connection: Connection, tenant: int, restored: str) -> None:
    """Replace anchors outside the ancestry of the restored version by it."""
    found = connection.execute(select(versions.c.version, versions.c.body).where(versions.c.tenant == tenant))
    kept = _ancestry({name: body["parent"] for name, body in found}, restored)
    here = (aliases.c.tenant == tenant, aliases.c.name.startswith(ANCHOR), aliases.c.version.not_in(kept))
    connection.execute(update(aliases).where(*here).values(version=restored))


def _write_version(connection: Connection, tenant: int, version: ModelVersion) -> tuple[int, bool]:
    """The number of the version, and whether it is new."""
    values = {"tenant": tenant, "version": version.version, "body": version.to_dict()}
    statement = insert(connection, versions).values(values).on_conflict_do_nothing()
    is_new = connection.execute(statement).rowcount == 1
    here = (versions.c.tenant == tenant, versions.c.version == version.version)
    number: int = connection.execute(select(versions.c.seq).where(*here)).scalar_one()
    return number, is_new


def _undone(
    connection: Connection, tenant: int, before: str, *, restored: str
) -> Iterator[tuple[str, Sequence[int]]]:
    """Pages of the lineage of each version in the ancestry of `before`, but not in that of `restored`."""
    statement = select(versions.c.version, versions.c.seq, versions.c.body)
    found = connection.execute(statement.where(versions.c.tenant == tenant)).all()
    numbers = {name: seq for name, seq, _ in found}
    parents = {name: body["parent"] for name, _, body in found}
    kept = set(_ancestry(parents, restored))
    for name in _ancestry(parents, before):
        if name not in kept:
            trained_on = select(lineage.c.example).where(lineage.c.version == numbers[name])
            for examples in curation.pages_of_numbers(connection, trained_on, lineage.c.example):
                yield name, examples


def _ancestry(parents: Mapping[str, str | None], version: str | None) -> list[str]:
    """A version and its known ancestors."""
    line: list[str] = []
    while version is not None and version in parents and version not in line:
        line.append(version)
        version = parents[version]
    return line


def _link(connection: Connection, tenant: int, version: int, example_ids: Sequence[str]) -> None:
    """Connect a version with the stored examples among these."""
    for piece in chunks(list(dict.fromkeys(example_ids))):
        here = (example_rows.c.tenant == tenant, example_rows.c.example_id.in_(piece))
        known = select(literal(version), example_rows.c.seq).where(*here)
        statement = insert(connection, lineage).from_select(list(lineage.c), known)
        connection.execute(statement.on_conflict_do_nothing())


def _bodies(tenant_id: str) -> Select[Any]:
    return select(versions.c.body).where(versions.c.tenant == tenants.number_of(tenant_id))


def _read(connection: Connection, bodies: Select[Any]) -> list[ModelVersion]:
    return [ModelVersion.model_validate(body) for body in connection.execute(bodies).scalars()]


def _first(connection: Connection, bodies: Select[Any]) -> ModelVersion | None:
    return next(iter(_read(connection, bodies)), None)


def masks_of(
    connection: Connection, tenant_id: str, generation: str, names: Sequence[str]
) -> Mapping[str, int]:
    """The stored masks among these names."""
    here = (masks.c.tenant == tenants.number_of(tenant_id), masks.c.generation == generation)
    found: dict[str, int] = {}
    for piece in chunks(list(dict.fromkeys(names))):
        rows = connection.execute(select(masks.c.name, masks.c.mask).where(*here, masks.c.name.in_(piece)))
        found.update((name, mask) for name, mask in rows)
    return found


def has_masks(connection: Connection, tenant_id: str, generation: str) -> bool:
    """Whether the generation has masks."""
    here = (masks.c.tenant == tenants.number_of(tenant_id), masks.c.generation == generation)
    return connection.execute(select(masks.c.name).where(*here).limit(1)).first() is not None


def store_masks(
    connection: Connection, tenant_id: str, generation: str, new: Mapping[str, int], *, token: int
) -> None:
    """Store the masks of a generation. Raises FencedOut."""
    lease_rows.check(connection, tenant_id, token)
    add_masks(connection, tenants.ensure(connection, tenant_id), generation, new)


def add_masks(connection: Connection, tenant: int, generation: str, more: Mapping[str, int]) -> None:
    """Add bits to the masks of a generation."""
    if not more:
        return
    rows = [
        {"tenant": tenant, "generation": generation, "name": name, "mask": mask}
        for name, mask in more.items()
    ]
    statement = insert(connection, masks)
    united = {"mask": masks.c.mask.op("|")(statement.excluded.mask)}
    key = ["tenant", "generation", "name"]
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=united), rows)


def prune_masks(connection: Connection, tenant_id: str, keep: Collection[str]) -> None:
    """Remove the masks of all generations except those in `keep`."""
    here = (masks.c.tenant == tenants.ensure(connection, tenant_id), masks.c.generation.not_in(list(keep)))
    connection.execute(delete(masks).where(*here))


def holdback(connection: Connection, tenant_id: str) -> Holdback | None:
    """The newest holdback of the tenant, also one that has ended."""
    here = holdbacks.c.tenant == tenants.number_of(tenant_id)
    row = connection.execute(select(holdbacks).where(here)).mappings().first()
    return None if row is None else Holdback(**{name: row[name] for name in Holdback.model_fields})


def _begin_holdback(connection: Connection, tenant: int, new: Holdback) -> None:
    """Begin a holdback, unless one runs: that goes on, against all later versions."""
    values = dict(new)
    statement = insert(connection, holdbacks).values(tenant=tenant, **values)
    ended = holdbacks.c.ends_at <= new.started_at
    connection.execute(statement.on_conflict_do_update(index_elements=["tenant"], set_=values, where=ended))


def end_holdback(connection: Connection, tenant_id: str, version: str, *, at: datetime) -> bool:
    """End the holdback of this version at a time, if it runs; whether it did."""
    here = (holdbacks.c.tenant == tenants.number_of(tenant_id), holdbacks.c.version == version)
    running = update(holdbacks).where(*here, holdbacks.c.ends_at > at)
    return connection.execute(running.values(ends_at=at)).rowcount > 0


def _remove_holdback(connection: Connection, tenant: int) -> None:
    """Remove the holdback: the versions that it measured were undone."""
    connection.execute(delete(holdbacks).where(holdbacks.c.tenant == tenant))
