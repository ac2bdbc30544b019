"""Runs functions on the database, in transactions that read or write."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Coroutine
from math import inf
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite
from asyncio_extras import call_in_executor
from sqlalchemy import URL, Connection, RootTransaction, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from karen_learner.concurrency import LoopBinding
from karen_learner.disk import Reserve, make_folder, open_private
from karen_learner.errors import (
    InvalidInput,
    LearnerClosed,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
)
from karen_learner.memory import schema
from karen_learner.memory.db_errors import DATABASE_ERRORS, translated
from karen_learner.memory.engine import (
    Engines,
    copy_database,
    create_engines,
    create_readers,
    database_file,
    empty_log,
    is_in_memory,
    probe,
    probe_readers,
    vacuum_database,
)

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Work = Callable[Concatenate[Connection, P], T]
DirectWork = Callable[Concatenate[aiosqlite.Connection, P], Awaitable[T]]

COMMITS_PER_CHECKPOINT = 16
"""Half a megabyte of ordinary turns."""

_RETRY_S = 0.05
RETRY_WRITING_S = 1.0
"""Time between attempts to open a database to write that was opened to read only."""

_LOCK_ALL = text("SELECT pg_advisory_xact_lock(5498114) FROM set_config('lock_timeout', :timeout, true)")
_LOCK_TENANTS = text(
    "SELECT pg_advisory_xact_lock_shared(5498114), (SELECT count(pg_advisory_xact_lock(5498114, key)) "
    "FROM unnest(CAST(:keys AS integer[])) AS key) FROM set_config('lock_timeout', :timeout, true)"
)
"""Advisory locks of a writing transaction on PostgreSQL, held until its end.

Transactions that write to the same tenant exclude each other. Those of different tenants do not, because no
rule connects rows of different tenants. `seq` comes from one sequence for all tenants, so its order is the
order of commits within a tenant only. `turns`, `versions` and lineages are read per tenant. The journal is
also read over all tenants (`cycles(None, since=...)`). So `start_cycle` locks all tenants: no reader reads a
higher `seq` before a lower one. A transaction takes its locks in ascending order, which excludes
deadlocks."""


class Database:
    """One connection that writes, and a pool that reads.

    Work is a function of a `Connection`. Work that has begun is finished even if its caller is cancelled. So
    no connection is left inside a transaction.

    With `read_only` nothing is written. On a full disk or in a read-only folder, a file is also opened to
    read only. The first write after the disk has room opens it to write.
    """

    def __init__(self, url: URL, *, busy_timeout_s: float, read_only: bool = False) -> None:
        self._file = database_file(url)
        self.place = str(self._file) if self._file is not None else url.render_as_string(hide_password=True)
        self.read_only: str | None = None
        """The reason for which nothing is written; None if the database can be written."""
        self._reads_only = read_only
        reserve = None if self._file is None else self._file.with_name(f"{self._file.name}.reserve")
        self._reserve = None if reserve is None else Reserve(reserve)
        self._tried_at = -inf
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._url = url
        self._busy_timeout_s = busy_timeout_s
        self._is_in_memory = is_in_memory(url)
        self._engines: Engines | None = None
        self._readers: AsyncEngine | None = None
        self._writer: AsyncConnection | None = None
        self._closed = False
        self._loop = LoopBinding(f"the store {self.place}")
        self._starting = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._running: set[asyncio.Future[Any]] = set()
        self._commits = 0
        self._checkpoint: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Open the database, check that it is ours, and create or migrate its tables. Idempotent.

        Repeated, it tries to open a database to write that was opened to read only.
        """
        self._loop.check()
        async with self._starting:
            if self._closed or self._readers is not None:
                self.require_open()
                if not self._reads_only:
                    await self._try_to_write(urgent=False)
                return
            try:
                await self._open_somehow()
            except BaseException:
                await self._disconnect()
                self._loop.release()
                raise

    async def close(self) -> None:
        """Wait for running work, then close every connection. Idempotent."""
        if self._readers is not None:
            self._loop.check()
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        await self._disconnect()

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work` on a connection that sees committed rows only."""
        readers = self.require_open()
        if self._is_in_memory and self._writer is not None:  # a reader would see uncommitted rows
            return await self._shielded(self._write(self._writer, (), work, *args, **kwargs))
        return await self._shielded(self._read(readers, work, *args, **kwargs))

    async def write(
        self, tenant_ids: Collection[str] | None, work: Work[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of `work` in a transaction that is durable when this returns.

        `tenant_ids` names all tenants that the work writes to; None excludes every other transaction.
        """
        writer = await self._require_writer()
        return await self._shielded(self._write(writer, tenant_ids, work, *args, **kwargs))

    async def write_urgently(
        self, tenant_ids: Collection[str] | None, work: Work[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `write`, also on a full disk: removes the reserve. For the journal, leases and the champion."""
        writer = await self._require_writer(urgent=True)
        try:
            return await self._shielded(self._write(writer, tenant_ids, work, *args, **kwargs))
        except StoreFull:
            if not await self._release_reserve():
                raise
        return await self._shielded(self._write(writer, tenant_ids, work, *args, **kwargs))

    async def write_directly(self, work: DirectWork[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, for work on SQLite's driver itself."""
        writer = await self._require_writer()
        return await self._shielded(self._write_directly(writer, work, *args, **kwargs))

    async def _read(self, readers: AsyncEngine, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with readers.connect() as connection:
                return await connection.run_sync(work, *args, **kwargs)
        except DATABASE_ERRORS as error:
            raise translated(self.place, error) from error

    async def _write(
        self,
        writer: AsyncConnection,
        tenant_ids: Collection[str] | None,
        work: Work[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def in_transaction(connection: Connection) -> T:
            with self._begun(connection, tenant_ids):
                return work(connection, *args, **kwargs)

        async with self._writing:
            try:
                answer = await writer.run_sync(in_transaction)
            except DATABASE_ERRORS as error:
                raise translated(self.place, error) from error
        self._after_commit()
        return answer

    async def _write_directly(
        self, writer: AsyncConnection, work: DirectWork[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._writing:
            try:
                driver = (await writer.get_raw_connection()).driver_connection
                if not isinstance(driver, aiosqlite.Connection):
                    raise StoreError(f"the database {self.place} is not written through aiosqlite")
                answer = await _in_transaction(driver, work, *args, **kwargs)
            except DATABASE_ERRORS as error:
                raise translated(self.place, error) from error
        self._after_commit()
        return answer

    def _begun(self, connection: Connection, tenant_ids: Collection[str] | None) -> RootTransaction:
        """A transaction with its locks, on a new connection if the server has closed the present one."""
        try:
            return self._locked(connection, tenant_ids)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            return self._locked(connection, tenant_ids)

    def _locked(self, connection: Connection, tenant_ids: Collection[str] | None) -> RootTransaction:
        transaction = connection.begin()
        try:
            self._lock(connection, tenant_ids)
        except BaseException:
            transaction.rollback()
            raise
        return transaction

    def _lock(self, connection: Connection, tenant_ids: Collection[str] | None) -> None:
        if self.is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        values: dict[str, Any] = {"timeout": f"{max(1, round(self._busy_timeout_s * 1000))}"}  # 0: no limit
        if tenant_ids is None:
            connection.execute(_LOCK_ALL, values)
        else:
            values["keys"] = sorted({_lock_key(tenant_id) for tenant_id in tenant_ids})
            connection.execute(_LOCK_TENANTS, values)

    async def snapshot(self, target: Path) -> None:
        """Copy the committed rows of an SQLite database to a new file, while it is in use.

        By SQLite's backup API (https://www.sqlite.org/backup.html). Raises InvalidInput for other databases.
        """
        self.require_open()
        if self._file is None:
            raise InvalidInput(
                f"the database {self.place} is no file: save it with its own tool, such as pg_dump, and the "
                "folders models/ and model_backups/ of the home after it"
            )
        try:
            is_written = self.read_only is None
            await call_in_executor(copy_database, self._file, target, is_written=is_written)
        except DATABASE_ERRORS as error:
            raise translated(self.place, error) from error

    async def vacuum(self) -> int:
        """Rewrite an SQLite file without its free pages; the bytes that this frees.

        Writers wait meanwhile. It needs room for a second copy. Does nothing on other databases. Raises
        StoreFull, StoreLocked, StoreReadOnly.
        """
        await self._require_writer()
        if self._file is None:
            return 0
        return await self._shielded(self._vacuum(self._file))

    async def _vacuum(self, file: Path) -> int:
        async with self._writing:
            try:
                freed: int = await call_in_executor(vacuum_database, file, self._busy_timeout_s)
            except DATABASE_ERRORS as error:
                raise translated(self.place, error) from error
        return freed

    async def empty_log(self) -> None:
        """Move SQLite's write-ahead log into the database, so that no erased text is left in it.

        If another process needs the log, it is emptied later: a warning is logged. Does nothing on other
        databases. Raises StoreError.
        """
        await self._require_writer()
        if self._file is not None:
            await self._shielded(self._empty_log(self._file))

    async def _empty_log(self, file: Path) -> None:
        async with self._writing:
            if self._checkpoint is not None:
                await asyncio.wait([self._checkpoint])
            try:
                is_empty = await call_in_executor(empty_log, file, self._busy_timeout_s / 2.0)
            except DATABASE_ERRORS as error:
                raise translated(self.place, error) from error
        if not is_empty:
            logger.warning("another process uses the log of %s, which still has erased texts", self.place)

    def _after_commit(self) -> None:
        """Begin a passive checkpoint of SQLite's write-ahead log from time to time.

        SQLite's own checkpoint runs within a commit and takes tens of milliseconds. A passive one on another
        connection blocks neither writers nor readers. `wal_autocheckpoint` still bounds the size of the log.
        See https://www.sqlite.org/wal.html, section 3.
        """
        self._commits += 1
        has_log = self.is_sqlite and not self._is_in_memory
        is_running = self._checkpoint is not None and not self._checkpoint.done()
        if has_log and self._engines and self._commits >= COMMITS_PER_CHECKPOINT and not is_running:
            self._commits = 0
            self._checkpoint = self._track(
                asyncio.ensure_future(self._read(self._engines.readers, _checkpoint))
            )

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._track(asyncio.ensure_future(work)))

    def _track(self, task: asyncio.Future[T]) -> asyncio.Future[T]:
        """Make `close` wait for the task."""
        self._running.add(task)
        task.add_done_callback(self._untrack)
        return task

    def _untrack(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # a cancelled caller does not retrieve it

    def require_open(self) -> AsyncEngine:
        """The engine that reads.

        Raises LearnerClosed after closing, StoreError before starting, WrongEventLoop.
        """
        if self._closed:
            raise LearnerClosed(f"the store {self.place} is closed: open a new one")
        if self._readers is None:
            raise StoreError(f"the store {self.place} is not open yet: use `async with`, or await start()")
        self._loop.check()
        return self._readers

    async def _require_writer(self, *, urgent: bool = False) -> AsyncConnection:
        """The connection that writes. Raises StoreReadOnly, and the errors of `require_open`."""
        self.require_open()
        if self._writer is None and not self._reads_only:
            async with self._starting:
                await self._try_to_write(urgent=urgent)
        if self._writer is None:
            raise StoreReadOnly(f"the database {self.place} is opened to read only: {self.read_only}")
        return self._writer

    async def _try_to_write(self, *, urgent: bool) -> None:
        """Open a database to write that was opened to read only; without urgency, once a second at most."""
        if self._writer is not None or (not urgent and time.monotonic() - self._tried_at < RETRY_WRITING_S):
            return
        if urgent:
            await self._release_reserve()
        self._tried_at = time.monotonic()
        before = self._readers
        try:
            await self._open_to_write()
        except StoreError as error:
            self.read_only = str(error)
            return
        logger.warning("the database %s can be written again", self.place)
        if before is not None:
            await before.dispose()

    async def _release_reserve(self) -> bool:
        released: bool = self._reserve is not None and await call_in_executor(self._reserve.release)
        return released

    def _make_folder(self) -> None:
        file = self._file
        if file is None:
            return
        try:
            make_folder(file.parent)
            if not file.exists():
                open_private(file, "ab").close()  # SQLite gives its mode to the log
        except OSError as error:
            raise StoreReadOnly(
                f"the database {self.place} cannot be made: {error}; choose another path"
            ) from error

    async def _open_somehow(self) -> None:
        """Open to write, else to read only if there is a database that can be read."""
        if self._reads_only:
            await self._open_to_read("it was asked for")
            return
        try:
            await self._open_to_write()
        except (StoreReadOnly, StoreFull) as error:
            if self._file is None or not self._file.is_file() or not self._file.stat().st_size:
                raise
            try:
                await self._open_to_read(str(error))
            except StoreError:
                raise error from None
            logger.warning("%s; until then it is opened to read only", error)

    async def _open_to_read(self, reason: str) -> None:
        readers = create_readers(self._url, busy_timeout_s=self._busy_timeout_s)
        try:
            await call_in_executor(probe_readers, readers)
            async with readers.connect() as connection:
                await connection.run_sync(schema.require_current, self.place)
        except DATABASE_ERRORS as error:
            await readers.dispose()
            raise translated(self.place, error) from error
        except BaseException:
            await readers.dispose()
            raise
        self._readers, self.read_only = readers, reason

    async def _open_to_write(self) -> None:
        self._make_folder()
        engines = create_engines(self._url, busy_timeout_s=self._busy_timeout_s)
        try:
            await self._open(engines)
        except BaseException:
            await engines.dispose()
            raise
        self._engines, self._readers, self.read_only = engines, engines.readers, None
        if self._reserve is not None:
            await call_in_executor(self._reserve.keep)

    async def _open(self, engines: Engines) -> None:
        try:
            if self.is_sqlite and not self._is_in_memory:
                await call_in_executor(probe, self._url)
            async with engines.readers.connect() as connection:
                await connection.run_sync(schema.recognise, self.place)
        except DATABASE_ERRORS as error:
            raise translated(self.place, error) from error
        writer = await self._connect_writer(engines)
        try:
            async with schema.exclusive():
                await self._write(writer, None, schema.upgrade, self.place)
        except BaseException:
            await writer.close()
            raise
        self._writer = writer  # now others may write

    async def _connect_writer(self, engines: Engines) -> AsyncConnection:
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                return await engines.writer.connect()
            except DATABASE_ERRORS as error:
                problem = translated(self.place, error)
                # SQLite does not wait for others when it changes to WAL.
                if not isinstance(problem, StoreLocked) or time.monotonic() > deadline:
                    raise problem from error
            await asyncio.sleep(_RETRY_S)

    async def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        engines, self._engines = self._engines, None
        readers, self._readers = self._readers, None
        if writer is not None:
            await writer.close()
        if engines is not None:
            await engines.dispose()
        elif readers is not None:
            await readers.dispose()


def _lock_key(tenant_id: str) -> int:
    """A signed 32-bit digest of a name. Tenants with equal digests exclude each other, which is safe."""
    digest = zlib.crc32(tenant_id.encode("utf-8", "surrogatepass"))
    return digest - (1 << 32) if digest >= 1 << 31 else digest


def _checkpoint(connection: Connection) -> None:
    try:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").close()
    except DBAPIError as error:  # no data is lost: the next checkpoint writes the pages
        logger.debug("a checkpoint failed: %s", error)


async def _in_transaction(
    driver: aiosqlite.Connection, work: DirectWork[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The result of `work`, committed. The driver begins the transaction before the first INSERT."""
    try:
        answer = await work(driver, *args, **kwargs)
        await driver.commit()
    except BaseException:
        await driver.rollback()
        raise
    return answer
