"""Recognises databases of this package, and creates or migrates their schema.

Alembic is imported for migrations only: it takes a tenth of a second.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect, select
from sqlalchemy.schema import CreateIndex, CreateTable

from karen_learner.errors import SchemaTooNew, StoreNotOurs, StoreReadOnly
from karen_learner.memory import text_keys
from karen_learner.memory.tables import is_partial, metadata

APPLICATION_ID = 0x4B4C4D31
"""`PRAGMA application_id` of our SQLite files ("KLM1"), also shown by `file(1)`."""

VERSION_TABLE = "karen_learner_schema"

MIGRATIONS = Path(__file__).parent / "migrations"
_version_table = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""The table of Alembic."""
_alembic = threading.Lock()
_RETRY_S = 0.005


@asynccontextmanager
async def exclusive() -> AsyncIterator[None]:
    """Run migrations of different stores one after the other: Alembic's `op` is global to the process."""
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 (no Event serves several event loops)
        await asyncio.sleep(_RETRY_S)
    try:
        yield
    finally:
        _alembic.release()


def recognise(connection: Connection, place: str) -> None:
    """Raise StoreNotOurs or SchemaTooNew unless the database is empty or can be migrated."""
    tables = inspect(connection).get_table_names()
    owner = _application_id(connection)
    if owner not in (0, APPLICATION_ID) or (tables and VERSION_TABLE not in tables):
        found = ", ".join(sorted(tables)[:3]) or f"application id {owner}"
        raise StoreNotOurs(
            f"the database {place} belongs to another program ({found}): choose another path with store.url"
        )
    present, known = revision(connection), revisions()
    if present is not None and present not in known:
        raise SchemaTooNew(
            f"the database {place} has the schema {present!r}, but this release of karen_learner supports "
            f"{known[-1]!r} at most: upgrade karen_learner"
        )


def require_current(connection: Connection, place: str) -> None:
    """Raise StoreReadOnly unless the schema can be read without a migration."""
    recognise(connection, place)
    if revision(connection) != revisions()[-1]:
        raise StoreReadOnly(
            f"the database {place} has the schema of an earlier release, or none: open it once to write"
        )


def upgrade(connection: Connection, place: str) -> None:
    """Create the tables, or run the missing migrations and recompute the keys of texts.

    Everything happens in the transaction of `connection`.
    """
    recognise(connection, place)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    present = revision(connection)
    if present is None:
        _create_tables(connection)
        _version_table.create(connection, checkfirst=True)
        connection.execute(_version_table.insert().values(version_num=revisions()[-1]))
    elif present != revisions()[-1]:
        from karen_learner.memory.alembic_steps import upgrade_to_head

        upgrade_to_head(connection)
    text_keys.recompute(connection)


def damages(connection: Connection) -> Sequence[str]:
    """Damages that SQLite finds in pages, indexes and references. It reads the whole file."""
    if connection.dialect.name != "sqlite":
        return ()
    pages = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
    references = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    lost = [f"a row of {row[0]} refers to a missing row of {row[2]}" for row in references[:10]]
    return [*(str(one) for one in pages if one != "ok"), *lost]


def page_use(connection: Connection) -> tuple[int, int]:
    """Bytes of the database, and those of its free pages. (0, 0) on PostgreSQL, which frees its own."""
    if connection.dialect.name != "sqlite":
        return 0, 0
    size, pages, free = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
        for name in ("page_size", "page_count", "freelist_count")
    )
    return size * pages, size * free


def revisions() -> list[str]:
    """The revisions of the shipped migrations, from the first to the last: the beginnings of their names."""
    return sorted(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def revision(connection: Connection) -> str | None:
    """The revision of the schema; None in an empty database."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    present: str | None = connection.execute(select(_version_table.c.version_num)).scalar()
    return present


def _create_tables(connection: Connection) -> None:
    """Create the declared tables and indexes.

    Partial indexes come last, because SQLite prefers the newer one of two suitable indexes.
    """
    for table in metadata.sorted_tables:
        connection.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: (is_partial(index), index.name)):
            connection.execute(CreateIndex(index))


def _application_id(connection: Connection) -> int:
    if connection.dialect.name != "sqlite":
        return 0
    return int(connection.exec_driver_sql("PRAGMA application_id").scalar_one())
