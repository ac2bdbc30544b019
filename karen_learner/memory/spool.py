"""`Spool`: entries that wait for processing, in a SQLite file of this process alone.

An entry is committed before `put` returns, so it survives the end of the process (`kill -9`). With `sync` the
commit also reaches the disk, so that it survives a power failure. Each process has a file of its own with an
exclusive lock. The operating system releases it when the process ends. `open` takes the entries of ended
processes over.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
from asyncio_extras import call_in_executor

from karen_learner.concurrency import Batcher
from karen_learner.disk import make_folder, open_private
from karen_learner.errors import StoreError
from karen_learner.records import new_id

logger = logging.getLogger(__name__)

SUFFIX = ".spool"
MAX_BATCH = 256
QUEUE_SIZE = 10_000
LOCK_TIMEOUT_S = 5.0
PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",  # the first lock is taken here
    "PRAGMA secure_delete = ON",
)
TABLE = (
    "CREATE TABLE IF NOT EXISTS entries "
    "(seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL, problem TEXT)"
)
INSERT = "INSERT INTO entries (body) SELECT value FROM json_each(?) ORDER BY key"
DELETE = "DELETE FROM entries WHERE seq IN (SELECT value FROM json_each(?))"

FIND = (
    "SELECT body FROM entries WHERE problem IS NULL AND NOT EXISTS (SELECT 1 FROM json_each(?) AS wanted "
    "WHERE json_extract(body, '$.' || wanted.key) IS NOT wanted.value) ORDER BY seq LIMIT 1"
)


class Entry(NamedTuple):
    """A waiting entry: its number in the file, and its JSON text."""

    seq: int
    body: str


class Spool:
    """Appends entries, and returns them in order until they are removed. Use it in one event loop.

    It holds at most `max_entries` entries and `max_bytes` bytes of text. Entries beyond these bounds are not
    stored (shed), and counted in `shed`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_entries: int = 100_000,
        max_bytes: int = 256 * 2**20,
        sync: bool = False,
    ) -> None:
        self._folder = folder
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._sync = sync
        self._file = folder / f"{new_id()}{SUFFIX}"
        self._connection: aiosqlite.Connection | None = None
        self._batcher: Batcher[Sequence[str], bool] = Batcher(
            self._insert,
            max_batch=MAX_BATCH,
            queue_size=QUEUE_SIZE,
            weigh=len,
            max_weight=MAX_BATCH,
            owner="the spool",
        )
        self.waiting = 0
        self.bytes = 0
        self.shed = 0

    async def open(self) -> None:
        """Make the file, and take over the entries of ended processes. Raises StoreError."""
        others = await call_in_executor(self._make_file)
        try:
            self._connection = await _connect(self._file, sync=self._sync, timeout_s=LOCK_TIMEOUT_S)
            await self._connection.execute_fetchall(TABLE)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the spool {self._file} cannot be made: {error}") from error
        for other in others:
            await self._take_over(other)
        rows = await self._rows("SELECT count(*), coalesce(sum(length(body)), 0) FROM entries")
        self.waiting, self.bytes = rows[0]

    async def close(self) -> None:
        """Close the file, and remove it if no entry waits. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        await self._batcher.close()
        ((left,),) = await connection.execute_fetchall("SELECT count(*) FROM entries")
        await connection.close()
        if not left:
            await call_in_executor(_remove, self._file)

    async def put(self, bodies: Sequence[str]) -> bool:
        """Store entries in one transaction; False if all were shed. They are committed when this returns.

        Raises no StoreError.
        """
        count, size = len(bodies), sum(map(len, bodies))
        if self.waiting + count > self._max_entries or self.bytes + size > self._max_bytes:
            self._count_shed(count, "the spool is full: turns arrive faster than they are stored")
            return False
        self.waiting += count
        self.bytes += size
        if await self._batcher.submit(bodies):
            return True
        self.waiting -= count
        self.bytes -= size
        return False

    async def find(self, **values: str) -> str | None:
        """The JSON text of the first waiting entry with these values; None if there is none."""
        rows = await self._rows(FIND, (json.dumps(values),))
        return rows[0][0] if rows else None

    async def next(self, *, after: int, limit: int) -> list[Entry]:
        """The oldest entries after a number, without those that were set aside. Raises StoreError."""
        rows = await self._rows(
            "SELECT seq, body FROM entries WHERE seq > ? AND problem IS NULL ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [Entry(*row) for row in rows]

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Remove processed entries. Raises StoreError."""
        if not entries:
            return
        ids = json.dumps([entry.seq for entry in entries])
        await self._rows(DELETE, (ids,))
        self.waiting -= len(entries)
        self.bytes -= sum(len(entry.body) for entry in entries)

    async def set_aside(self, entry: Entry, problem: str) -> None:
        """Keep an entry that cannot be processed. The next process tries it again. Raises StoreError."""
        await self._rows("UPDATE entries SET problem = ? WHERE seq = ?", (problem, entry.seq))

    async def _insert(self, groups: Sequence[Sequence[str]]) -> list[bool | Exception]:
        """One transaction for the entries of concurrent callers. A failure sheds them all."""
        bodies = [body for group in groups for body in group]
        try:
            await self._rows(INSERT, (json.dumps(bodies),))
        except StoreError as error:
            self._count_shed(len(bodies), f"the spool cannot be written: {error}")
            return [False] * len(groups)
        return [True] * len(groups)

    def _count_shed(self, count: int, reason: str) -> None:
        if not self.shed:
            logger.error("turns are not spooled: %s", reason)
        self.shed += count

    async def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        if self._connection is None:
            raise StoreError("the spool is closed")
        try:
            return list(await self._connection.execute_fetchall(statement, values))
        except sqlite3.Error as error:
            raise StoreError(f"the spool {self._file.name} fails: {error}") from error

    def _make_file(self) -> list[Path]:
        """Make the file for this user only; the files of other processes."""
        try:
            make_folder(self._folder)
            others = sorted(self._folder.glob(f"*{SUFFIX}"))
            open_private(self._file, "ab").close()
        except OSError as error:
            raise StoreError(f"the spool {self._file} cannot be made: {error}") from error
        return others

    async def _take_over(self, other: Path) -> None:
        """Move the entries of an ended process here. A crash in between leaves them in both files.

        A file without a table is new: its process has not locked it yet.
        """
        try:
            theirs = await _connect(other, sync=self._sync)
        except sqlite3.OperationalError:  # its process runs
            return
        except sqlite3.DatabaseError as error:
            logger.error("the spool %s cannot be read, and stays: %s", other, error)
            return
        try:
            if not await theirs.execute_fetchall("SELECT 1 FROM sqlite_master WHERE name = 'entries'"):
                return
            rows = await theirs.execute_fetchall("SELECT body FROM entries ORDER BY seq")
            bodies = [body for (body,) in rows]
            for start in range(0, len(bodies), MAX_BATCH):
                await self._rows(INSERT, (json.dumps(bodies[start : start + MAX_BATCH]),))
        finally:
            await theirs.close()
        await call_in_executor(_remove, other)


async def _connect(file: Path, *, sync: bool, timeout_s: float = 0.0) -> aiosqlite.Connection:
    """A connection with the exclusive lock of a file. Raises sqlite3.Error."""
    connection = await aiosqlite.connect(file, isolation_level=None, timeout=timeout_s)
    try:
        for pragma in (*PRAGMAS, f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}", "BEGIN EXCLUSIVE"):
            await connection.execute_fetchall(pragma)
        await connection.execute_fetchall("COMMIT")
    except BaseException:
        await connection.close()
        raise
    return connection


def _remove(file: Path) -> None:
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        file.with_name(name).unlink(missing_ok=True)
