"""Where a store may be in tests: in memory, in an SQLite file, in a database of a PostgreSQL server."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

SERVER = os.environ.get("KAREN_TEST_POSTGRES", "")
"""The URL of a PostgreSQL server whose user may make databases. Without it, nothing runs on PostgreSQL."""

SHARED = ["file", "postgresql"] if SERVER else ["file"]
"""Kinds of databases that several stores may open at once."""


@asynccontextmanager
async def a_database(kind: str, folder: Path = Path()) -> AsyncIterator[Path | str]:
    """What `open_store` opens as a new database, which is gone with the test."""
    if kind == "postgresql":
        async with _new_on_server() as url:
            yield url
    else:
        yield folder / "karen.db" if kind == "file" else ":memory:"


@asynccontextmanager
async def _new_on_server() -> AsyncIterator[str]:
    server = make_url(SERVER).set(drivername="postgresql+asyncpg")
    name = f"karen_test_{uuid.uuid4().hex}"
    await _order(server, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        await _order(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _order(server: URL, statement: str) -> None:
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql(statement)
    finally:
        await engine.dispose()
