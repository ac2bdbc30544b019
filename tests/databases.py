"""Databases of tests: in memory, an SQLite file, or a database of a PostgreSQL server."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from karen_learner.learner import AutonomousLearner
from karen_learner.memory import open_store
from karen_learner.settings import load_settings

SERVER = os.environ.get("KAREN_TEST_POSTGRES", "")
"""URL of a PostgreSQL server whose user may create databases. Without it, no test uses PostgreSQL."""

SHARED = ["file", "postgresql"] if SERVER else ["file"]
"""Kinds of databases that several stores can open at the same time."""


@asynccontextmanager
async def a_database(kind: str, folder: Path = Path(), *, like: str = "") -> AsyncIterator[Path | str]:
    """A new database for `open_store`, or a copy of another one. It is dropped after the block."""
    if kind == "postgresql":
        url = await make_on_server(like)
        try:
            yield url
        finally:
            await drop_from_server(url)
    else:
        yield folder / "karen.db" if kind == "file" else ":memory:"


async def make_on_server(like: str = "") -> str:
    """URL of a new database, or of a copy of a database without connections."""
    server = make_url(SERVER).set(drivername="postgresql+asyncpg")
    name = f"karen_test_{uuid.uuid4().hex}"
    template = make_url(like).database if like else "template0 ENCODING 'UTF8'"
    await execute(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return server.set(database=name).render_as_string(hide_password=False)


async def create_tables(url: str) -> None:
    """Create the tables of a store in an empty database."""
    async with open_store(url, load_settings(environment={}).store):
        pass


async def drop_from_server(url: str) -> None:
    await execute(make_url(SERVER), f"DROP DATABASE {make_url(url).database} WITH (FORCE)")


async def execute(place: Path | str | URL, statement: str) -> None:
    """Execute a statement on a separate connection."""
    async with _connection(place) as connection:
        await connection.exec_driver_sql(statement)


def place_of(learner: AutonomousLearner) -> Path | str:
    """Path or URL of a learner's store."""
    return learner.settings.store.url or learner.layout.database


async def contents(place: Path | str) -> str:
    """All rows of a database."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as opened:
            return "\n".join(opened.iterdump())
    lines: list[str] = []
    async with _connection(place) as connection:
        named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        for table in (await connection.exec_driver_sql(named)).scalars().all():
            rows = await connection.exec_driver_sql(f"SELECT t::text FROM {table} AS t ORDER BY 1")
            lines += [f"{table} {row}" for row in rows.scalars()]
    return "\n".join(lines)


@asynccontextmanager
async def _connection(place: Path | str | URL) -> AsyncIterator[AsyncConnection]:
    """A connection in autocommit mode."""
    if isinstance(place, Path):
        url = URL.create("sqlite+aiosqlite", database=str(place))
    else:
        url = make_url(place).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()
