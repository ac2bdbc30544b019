"""Runs work on the database, in transactions that read or write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite
from asyncio_extras import call_in_executor
from sqlalchemy import URL, Connection, RootTransaction
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from karen_learner.errors import LearnerClosed, StoreError, StoreLocked, StoreReadOnly
from karen_learner.memory import schema
from karen_learner.memory.checkpoints import CheckpointDue, checkpoint
from karen_learner.memory.engine import Engines, create_engines, database_file, is_in_memory, probe
from karen_learner.memory.failures import translated

P = ParamSpec("P")
T = TypeVar("T")

Work = Callable[Concatenate[Connection, P], T]
DirectWork = Callable[Concatenate[aiosqlite.Connection, P], Awaitable[T]]

_RETRY_S = 0.05


class Database:
    """One connection that writes, a pool that reads.

    Work is a plain function of a `Connection`. What has begun is finished even when its caller is
    cancelled, so that no connection is left half used.
    """

    def __init__(self, url: URL, *, busy_timeout_s: float) -> None:
        self.place = url.render_as_string(hide_password=True)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._url = url
        self._busy_timeout_s = busy_timeout_s
        self._engines: Engines | None = None
        self._writer: AsyncConnection | None = None
        self._closed = False
        self._writing = asyncio.Lock()
        self._running: set[asyncio.Future[Any]] = set()
        self._checkpoint_due = CheckpointDue()
        self._has_log = self.is_sqlite and not is_in_memory(url)

    async def start(self) -> None:
        """Open the database, check that it is ours, and bring its schema up to date."""
        if self._closed:
            raise LearnerClosed(f"the store {self.place} is closed: open a new one")
        self._make_folder()
        self._engines = create_engines(self._url, busy_timeout_s=self._busy_timeout_s)
        try:
            await self._open(self._engines)
        except BaseException:
            await self._disconnect()
            raise

    async def close(self) -> None:
        """Wait for what is running, then close every connection. Idempotent."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        await self._disconnect()

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` answers on a connection that sees only what is committed."""
        engines, writer = self.require_open()
        if is_in_memory(self._url):  # its one connection would show a reader what a writer has half done
            return await self._whole(self._write(writer, work, *args, **kwargs))
        return await self._whole(self._read(engines, work, *args, **kwargs))

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` answers, in a transaction that is durable when this returns."""
        _, writer = self.require_open()
        return await self._whole(self._write(writer, work, *args, **kwargs))

    async def write_directly(self, work: DirectWork[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, for work that talks to SQLite's driver itself."""
        _, writer = self.require_open()
        return await self._whole(self._write_directly(writer, work, *args, **kwargs))

    async def _read(self, engines: Engines, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with translated(self.place):
            async with engines.readers.connect() as connection:
                return await connection.run_sync(work, *args, **kwargs)

    async def _write(self, writer: AsyncConnection, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._writing:
            with translated(self.place):
                answer = await writer.run_sync(_in_turn, work, *args, **kwargs)
        self._committed()
        return answer

    async def _write_directly(
        self, writer: AsyncConnection, work: DirectWork[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._writing:
            with translated(self.place):
                driver = (await writer.get_raw_connection()).driver_connection
                if not isinstance(driver, aiosqlite.Connection):
                    raise StoreError(f"the database {self.place} is not written through aiosqlite")
                answer = await _in_transaction(driver, work, *args, **kwargs)
        self._committed()
        return answer

    def _committed(self) -> None:
        if self._has_log and self._engines is not None and self._checkpoint_due.after_commit():
            self._keep(asyncio.ensure_future(self._checkpoint(self._engines)))

    async def _checkpoint(self, engines: Engines) -> None:
        try:
            await self._read(engines, checkpoint)
        finally:
            self._checkpoint_due.done()

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._keep(asyncio.ensure_future(work)))

    def _keep(self, task: asyncio.Future[T]) -> asyncio.Future[T]:
        """Let `close` wait for the task."""
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # a cancelled caller is not there to hear of it

    def require_open(self) -> tuple[Engines, AsyncConnection]:
        """Raises LearnerClosed after closing, StoreError before starting."""
        if self._closed:
            raise LearnerClosed(f"the store {self.place} is closed: open a new one")
        if self._engines is None or self._writer is None:
            raise StoreError(f"the store {self.place} is not open yet: use `async with`, or await start()")
        return self._engines, self._writer

    def _make_folder(self) -> None:
        file = database_file(self._url)
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreReadOnly(
                f"the folder of the database {self.place} cannot be made: {error}; choose another path"
            ) from error

    async def _open(self, engines: Engines) -> None:
        with translated(self.place):
            if self.is_sqlite and not is_in_memory(self._url):
                await call_in_executor(probe, self._url)
            async with engines.readers.connect() as connection:
                await connection.run_sync(schema.recognise, self.place)
        self._writer = await self._connect_writer(engines)
        async with schema.one_at_a_time():
            await self._write(self._writer, schema.upgrade, self.place)

    async def _connect_writer(self, engines: Engines) -> AsyncConnection:
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                with translated(self.place):
                    return await engines.writer.connect()
            except StoreLocked:  # SQLite does not wait for others when it changes to WAL
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_RETRY_S)

    async def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        engines, self._engines = self._engines, None
        if writer is not None:
            await writer.close()
        if engines is not None:
            await engines.dispose()


def _in_turn(connection: Connection, work: Work[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    with _begun(connection):
        return work(connection, *args, **kwargs)


def _begun(connection: Connection) -> RootTransaction:
    """A transaction, on a new connection if the server has closed the old one since it was last used."""
    try:
        return connection.begin()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    return connection.begin()


async def _in_transaction(
    driver: aiosqlite.Connection, work: DirectWork[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    await driver.execute_fetchall("BEGIN IMMEDIATE")
    try:
        answer = await work(driver, *args, **kwargs)
        await driver.commit()
    except BaseException:
        await driver.rollback()
        raise
    return answer
