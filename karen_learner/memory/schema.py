"""Recognises a database of ours, and brings its schema up to date with Alembic."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from karen_learner.errors import SchemaTooNew, StoreNotOurs

APPLICATION_ID = 0x4B4C4D31
"""In the header of an SQLite file ("KLM1"), where `file(1)` and we look for whose it is."""

VERSION_TABLE = "karen_learner_schema"

_MIGRATIONS = Path(__file__).parent / "migrations"
_alembic = threading.Lock()
_PATIENCE_S = 0.005


@asynccontextmanager
async def one_at_a_time() -> AsyncIterator[None]:
    """Keep the migrations of different stores apart: Alembic's `op` is one global for the process."""
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 (no Event serves several event loops)
        await asyncio.sleep(_PATIENCE_S)
    try:
        yield
    finally:
        _alembic.release()


def recognise(connection: Connection, place: str) -> None:
    """Raise StoreNotOurs or SchemaTooNew unless the database is empty or one that we can migrate."""
    tables = inspect(connection).get_table_names()
    owner = _application_id(connection)
    if owner not in (0, APPLICATION_ID) or (tables and VERSION_TABLE not in tables):
        found = ", ".join(sorted(tables)[:3]) or f"application id {owner}"
        raise StoreNotOurs(
            f"the database {place} belongs to something else ({found}): choose another path with store.url"
        )
    _refuse_newer(revision(connection), place)


def upgrade(connection: Connection, place: str) -> None:
    """Run the migrations that are missing, in the transaction of `connection`."""
    recognise(connection, place)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def scripts() -> ScriptDirectory:
    """The shipped migrations."""
    return ScriptDirectory.from_config(_config())


def revision(connection: Connection) -> str | None:
    """The revision of the schema; None in an empty database."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _config() -> Config:
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = VERSION_TABLE
    return config


def _refuse_newer(found: str | None, place: str) -> None:
    script = scripts()
    if found is not None and found not in {step.revision for step in script.walk_revisions()}:
        raise SchemaTooNew(
            f"the database {place} has the schema {found!r}, but this release of karen_learner knows it "
            f"only up to {script.get_current_head()!r}: upgrade karen_learner"
        )


def _application_id(connection: Connection) -> int:
    if connection.dialect.name != "sqlite":
        return 0
    return int(connection.exec_driver_sql("PRAGMA application_id").scalar_one())
