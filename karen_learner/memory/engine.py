"""Engines: one connection that writes, a pool of readers, and the pragmas for durable commits."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy import URL, NullPool, StaticPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from karen_learner.disk import open_private
from karen_learner.errors import SettingsError

READERS = 4

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}

WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # withdrawn text must not remain in free pages
    "PRAGMA wal_autocheckpoint = 16000",  # pages; `Database` makes checkpoints earlier, on a reader
    "PRAGMA cache_size = -32768",  # KiB
)
READER_PRAGMAS = ("PRAGMA query_only = ON",)
PLAN_FOR_VALUES = "SET plan_cache_mode = force_custom_plan"
"""PostgreSQL plans each statement for its values: in a general plan, a long list of names is slow."""

_engine = partial(create_async_engine, hide_parameters=True)  # errors do not quote texts


@dataclass(frozen=True)
class Engines:
    """The writer's engine and the readers' engine. In memory, both are the same."""

    writer: AsyncEngine
    readers: AsyncEngine

    async def dispose(self) -> None:
        await self.readers.dispose()
        await self.writer.dispose()


def parse_url(url_or_path: str | Path) -> URL:
    """The URL of a database: `":memory:"`, the path of an SQLite file, or an SQLAlchemy URL.

    Raises SettingsError for an unsupported database.
    """
    text = str(url_or_path)
    if "://" not in text:
        return URL.create("sqlite+aiosqlite", database=text)
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise SettingsError(f"store.url is no database URL: {error}") from error
    except ValueError:  # a port that is no number, or a part of a password: not quoted
        raise SettingsError(
            "store.url is no database URL: its port is no number; percent-encode the characters : / @ of a "
            "password"
        ) from None
    backend = url.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise SettingsError(f"store.url: {backend!r} is not supported; use sqlite or postgresql")
    url = url.set(drivername=_DRIVERS[backend])
    return url if backend == "sqlite" else _for_asyncpg(url)


def _for_asyncpg(url: URL) -> URL:
    """The URL with libpq's option `sslmode` under asyncpg's name."""
    if find_spec("asyncpg") is None:
        raise SettingsError("store.url: PostgreSQL needs an extra: pip install 'karen-learner[postgres]'")
    options = dict(url.query)
    if "sslmode" in options:
        options["ssl"] = options.pop("sslmode")
    return url.set(query=options)


def is_in_memory(url: URL) -> bool:
    """Whether the database exists in one connection only."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def database_file(url: URL) -> Path | None:
    """The file of an SQLite database that is named by its path."""
    named = url.get_backend_name() == "sqlite" and not is_in_memory(url)
    return Path(url.database) if named and url.database and not url.database.startswith("file:") else None


def read_only_query(file: Path) -> dict[str, str]:
    """The options of SQLite that open a file to read only.

    If the write-ahead log is empty or missing, the file has all commits: SQLite then needs no locks
    (`immutable`), which it could not make on a full or read-only disk.
    See https://www.sqlite.org/wal.html#readonly.
    """
    log = file.with_name(file.name + "-wal")
    has_all = not (log.exists() and log.stat().st_size)
    return {"mode": "ro", **({"immutable": "1"} if has_all else {})}


def copy_database(file: Path, target: Path, *, is_written: bool) -> None:
    """Copy an SQLite database to a new file, also while a process writes to it (`is_written`). Blocking."""
    open_private(target, "xb").close()
    options = urlencode({"mode": "ro"} if is_written else read_only_query(file))
    source = sqlite3.connect(f"file:{quote(str(file.absolute()))}?{options}", uri=True)
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()


def vacuum_database(file: Path, busy_timeout_s: float) -> int:
    """Rewrite an SQLite file without its free pages; the bytes that this frees. Blocking."""
    before = file.stat().st_size
    connection = sqlite3.connect(file, timeout=busy_timeout_s, isolation_level=None)
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    finally:
        connection.close()
    return max(0, before - file.stat().st_size)


def empty_log(file: Path, busy_timeout_s: float) -> bool:
    """Move the write-ahead log of an SQLite file into it, and empty the log. Blocking.

    Writers wait meanwhile. False if a reader or a writer needs the log for longer than the timeout.
    """
    connection = sqlite3.connect(file, timeout=busy_timeout_s, isolation_level=None)
    try:
        is_busy, _pages, _moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()
    return not is_busy


def create_readers(url: URL, *, busy_timeout_s: float) -> AsyncEngine:
    """An engine that only reads, also from a full disk and from a read-only folder. Not connected yet.

    Each use opens a connection.
    """
    file = database_file(url)
    if file is None:
        sqlite = url.get_backend_name() == "sqlite"
        return _pool(url) if sqlite else _readers_of_server(url)
    query = read_only_query(file) | {"uri": "true"}
    readonly = url.set(database=f"file:{quote(str(file.absolute()))}", query=query)
    readers = _engine(
        readonly, poolclass=NullPool, connect_args={"isolation_level": None, "timeout": busy_timeout_s}
    )
    _on_connect(readers, READER_PRAGMAS)
    return readers


def create_engines(url: URL, *, busy_timeout_s: float) -> Engines:
    """Engines that are not connected yet."""
    if url.get_backend_name() != "sqlite":
        # The writer must see commits made while it waited for its locks, on any server default.
        writer = _engine(url, pool_size=1, max_overflow=0, isolation_level="READ COMMITTED")
        _plan_for_values(writer)
        return Engines(writer, _readers_of_server(url))
    connect = {"isolation_level": None, "timeout": busy_timeout_s}
    writing = {**connect, "isolation_level": "IMMEDIATE"}  # the first INSERT begins a transaction
    if is_in_memory(url):
        only = _engine(url, poolclass=StaticPool, connect_args=writing)
        _on_connect(only, WRITER_PRAGMAS)
        return Engines(only, only)
    writer = _engine(url, pool_size=1, max_overflow=0, connect_args=writing)
    _on_connect(writer, WRITER_PRAGMAS)
    readers = _pool(url, connect_args=connect)
    _on_connect(readers, READER_PRAGMAS)
    return Engines(writer, readers)


def probe(url: URL) -> None:
    """Open the SQLite database and close it again. Raises SQLAlchemy's errors. Blocks.

    aiosqlite's thread outlives a failed connect for a moment, and logs an error if the event loop ends
    meanwhile. So the first connection is made without aiosqlite.
    """
    engine = create_engine(url.set(drivername="sqlite"), poolclass=NullPool)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def probe_readers(readers: AsyncEngine) -> None:
    """As `probe`, for an engine of `create_readers`."""
    if readers.url.get_backend_name() == "sqlite":
        probe(readers.url)


def _readers_of_server(url: URL) -> AsyncEngine:
    """As on SQLite, each statement of a reader sees all commits before it, and needs no BEGIN."""
    readers = _pool(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    _plan_for_values(readers)
    return readers


def _plan_for_values(engine: AsyncEngine) -> None:
    """Set PLAN_FOR_VALUES by a statement: a pooler may refuse it as a parameter of the connection."""

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, record: object) -> None:  # noqa: ARG001
        connection.run_async(lambda driver: driver.execute(PLAN_FOR_VALUES))


def _pool(url: URL, **options: Any) -> AsyncEngine:
    return _engine(url, pool_size=READERS, max_overflow=0, pool_timeout=3600, **options)


def _on_connect(engine: AsyncEngine, pragmas: tuple[str, ...]) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, record: object) -> None:  # noqa: ARG001
        cursor = connection.cursor()
        try:
            for pragma in pragmas:
                cursor.execute(pragma)
            cursor.close()
        except BaseException:  # the pool drops a connection that fails here without ending its thread
            connection.close()
            raise
