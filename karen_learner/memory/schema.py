"""Recognises databases of this package, and creates or migrates their schema."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.schema import CreateIndex, CreateTable

from karen_learner.errors import SchemaTooNew, StoreNotOurs, StoreReadOnly
from karen_learner.memory import text_keys
from karen_learner.memory.tables import is_partial, metadata

APPLICATION_ID = 0x4B4C4D31
"""`PRAGMA application_id` of our SQLite files ("KLM1"), also shown by `file(1)`."""

VERSION_TABLE = "karen_learner_schema"

_MIGRATIONS = Path(__file__).parent / "migrations"
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
    present, script = revision(connection), scripts()
    if present is not None and present not in {step.revision for step in script.walk_revisions()}:
        raise SchemaTooNew(
            f"the database {place} has the schema {present!r}, but this release of karen_learner supports "
            f"{script.get_current_head()!r} at most: upgrade karen_learner"
        )


def require_current(connection: Connection, place: str) -> None:
    """Raise StoreReadOnly unless the schema can be read without a migration."""
    recognise(connection, place)
    if revision(connection) != scripts().get_current_head():
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
    if revision(connection) is None:
        _create_tables(connection)
        _context(connection).stamp(scripts(), "head")
    else:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    text_keys.recompute(connection)


def damages(connection: Connection) -> Sequence[str]:
    """Damages that SQLite finds in pages, indexes and references. It reads the whole file."""
    if connection.dialect.name != "sqlite":
        return ()
    pages = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
    references = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    lost = [f"a row of {row[0]} refers to a missing row of {row[2]}" for row in references[:10]]
    return [*(str(one) for one in pages if one != "ok"), *lost]


def scripts() -> ScriptDirectory:
    """The shipped migrations."""
    return ScriptDirectory.from_config(_config())


def revision(connection: Connection) -> str | None:
    """The revision of the schema; None in an empty database."""
    return _context(connection).get_current_revision()


def _create_tables(connection: Connection) -> None:
    """Create the declared tables and indexes.

    Partial indexes come last, because SQLite prefers the newer one of two suitable indexes.
    """
    for table in metadata.sorted_tables:
        connection.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: (is_partial(index), index.name)):
            connection.execute(CreateIndex(index))


def _context(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})


def _config() -> Config:
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = VERSION_TABLE
    return config


def _application_id(connection: Connection) -> int:
    if connection.dialect.name != "sqlite":
        return 0
    return int(connection.exec_driver_sql("PRAGMA application_id").scalar_one())
