"""Engines: one connection that writes, a few that read, and the pragmas that make a commit durable."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, NullPool, StaticPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

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
    "PRAGMA secure_delete = ON",  # words that were withdrawn must not linger in free pages
    "PRAGMA wal_autocheckpoint = 16000",  # pages; see checkpoints.py, which keeps commits from waiting for it
    "PRAGMA cache_size = -32768",  # KiB
)
READER_PRAGMAS = ("PRAGMA query_only = ON",)

_TAKE_TURNS = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": (
        "SELECT pg_advisory_xact_lock(5498114) FROM set_config('lock_timeout', '{busy_timeout_ms}', true)"
    ),
}
"""How a transaction becomes the only one that writes, whatever other processes do."""


@dataclass(frozen=True)
class Engines:
    """`writer` begins transactions that exclude every other writer. In memory both are one."""

    writer: AsyncEngine
    readers: AsyncEngine

    async def dispose(self) -> None:
        await self.readers.dispose()
        await self.writer.dispose()


def parse_url(url_or_path: str | Path) -> URL:
    """The URL of a database: `":memory:"`, the path of an SQLite file, or an SQLAlchemy URL.

    Raises SettingsError for a database that the store cannot use.
    """
    text = str(url_or_path)
    if "://" not in text:
        return URL.create("sqlite+aiosqlite", database=text)
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise SettingsError(f"store.url is no database URL: {error}") from error
    backend = url.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise SettingsError(f"store.url: {backend!r} is not supported; use sqlite or postgresql")
    url = url.set(drivername=_DRIVERS[backend])
    return url if backend == "sqlite" else _for_asyncpg(url)


def _for_asyncpg(url: URL) -> URL:
    """With the option of libpq that URLs of servers mostly carry, `sslmode`, as asyncpg names it."""
    if find_spec("asyncpg") is None:
        raise SettingsError(
            "store.url: PostgreSQL needs a package that is an extra: pip install 'karen-learner[postgres]'"
        )
    options = dict(url.query)
    if "sslmode" in options:
        options["ssl"] = options.pop("sslmode")
    return url.set(query=options)


def is_in_memory(url: URL) -> bool:
    """Whether the database lives in one connection and dies with it."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def database_file(url: URL) -> Path | None:
    """The file of an SQLite database that is named by its path."""
    named = url.get_backend_name() == "sqlite" and not is_in_memory(url)
    return Path(url.database) if named and url.database and not url.database.startswith("file:") else None


def create_engines(url: URL, *, busy_timeout_s: float) -> Engines:
    """Engines that have not connected yet."""
    if url.get_backend_name() != "sqlite":
        return _create_on_server(url, busy_timeout_s)
    connect = {"isolation_level": None, "timeout": busy_timeout_s}
    if is_in_memory(url):
        only = create_async_engine(url, poolclass=StaticPool, connect_args=connect)
        _on_connect(only, WRITER_PRAGMAS)
        return Engines(_writer(only, busy_timeout_s), only)
    writer = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=connect)
    _on_connect(writer, WRITER_PRAGMAS)
    readers = _pool(url, connect_args=connect)
    _on_connect(readers, READER_PRAGMAS)
    return Engines(_writer(writer, busy_timeout_s), readers)


def probe(url: URL) -> None:
    """Open the SQLite database and close it again; raises what SQLAlchemy raises. Blocks.

    When aiosqlite cannot open a file, its thread outlives the error for a moment, and complains if the
    event loop ends meanwhile. So the first to try is somebody else.
    """
    engine = create_engine(url.set(drivername="sqlite"), poolclass=NullPool)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _create_on_server(url: URL, busy_timeout_s: float) -> Engines:
    # The writer must see what was committed while it waited for its turn, whatever the server's default is.
    writer = create_async_engine(url, pool_size=1, max_overflow=0, isolation_level="READ COMMITTED")
    # As on SQLite, each statement of a reader sees what is committed by then, and needs no BEGIN.
    readers = _pool(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    return Engines(_writer(writer, busy_timeout_s), readers)


def _pool(url: URL, **options: Any) -> AsyncEngine:
    return create_async_engine(url, pool_size=READERS, max_overflow=0, pool_timeout=3600, **options)


def _writer(engine: AsyncEngine, busy_timeout_s: float) -> AsyncEngine:
    busy_timeout_ms = max(1, round(busy_timeout_s * 1000))  # PostgreSQL takes 0 for no limit at all
    statement = _TAKE_TURNS[engine.dialect.name].format(busy_timeout_ms=busy_timeout_ms)

    @event.listens_for(engine.sync_engine, "begin")
    def take_turns(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return engine


def _on_connect(engine: AsyncEngine, pragmas: tuple[str, ...]) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, record: object) -> None:  # noqa: ARG001
        cursor = connection.cursor()
        try:
            for pragma in pragmas:
                cursor.execute(pragma)
            cursor.close()
        except BaseException:  # the pool forgets a connection that fails here, and its thread
            connection.close()
            raise
