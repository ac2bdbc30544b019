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
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
from asyncio_extras import call_in_executor

from karen_learner.concurrency import Batcher
from karen_learner.disk import make_folder, open_private
from karen_learner.errors import StoreError
from karen_learner.records import new_id

logger = logging.getLogger(__name__)

SUFFIX, LOCK_SUFFIX = ".spool", ".lock"
MAX_BATCH = 256
QUEUE_SIZE = 10_000
BUSY_TIMEOUT_S = 5.0
PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA secure_delete = ON")
TABLE = (
    "CREATE TABLE IF NOT EXISTS entries "
    "(seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL, problem TEXT)"
)
INSERT = "INSERT INTO entries (body) SELECT value FROM json_each(?) ORDER BY key"
DELETE = "DELETE FROM entries WHERE seq IN (SELECT value FROM json_each(?)) RETURNING seq"
TENANT, TURN, USER = (
    f"CASE WHEN json_valid(body) THEN json_extract(body, '$.{name}') END"
    for name in ("tenant_id", "turn_id", "user_id")
)
INDEX = f"CREATE INDEX IF NOT EXISTS entries_by_turn ON entries ({TURN})"
FIND = (
    f"SELECT body FROM entries WHERE {TURN} = :turn AND {TENANT} = :tenant AND problem IS NULL "  # noqa: S608
    "ORDER BY seq LIMIT 1"
)
OF_USER = (
    f"SELECT seq FROM entries WHERE {TENANT} = :tenant AND {TURN} IN "  # noqa: S608
    f"(SELECT {TURN} FROM entries WHERE {TENANT} = :tenant AND {USER} = :user)"
)
"""The turns of a user, and the feedback on them."""


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
        self._lock: sqlite3.Connection | None = None
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
        self._puts_begun = self._puts_ended = 0

    async def open(self) -> None:
        """Make the file, and take over the entries of ended processes. Raises StoreError."""
        others = await call_in_executor(self._make_file)
        try:
            self._connection = await _connect(self._file, sync=self._sync)
            for statement in (TABLE, INDEX):
                await self._connection.execute_fetchall(statement)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the spool {self._file} cannot be made: {error}") from error
        for other in others:
            await self._take_over(other)
        await self.count()

    async def count(self) -> None:
        """Set `waiting` and `bytes` anew, unless entries arrive now. Raises StoreError.

        Another process may have erased entries.
        """
        ended = self._puts_ended
        rows = await self._rows("SELECT count(*), coalesce(sum(length(body)), 0) FROM entries")
        if self._puts_begun == ended:
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
        if self._lock is not None:
            self._lock.close()

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
        self._puts_begun += 1
        try:
            is_stored = await self._batcher.submit(bodies)
        finally:
            self._puts_ended += 1
        if is_stored:
            return True
        self.waiting -= count
        self.bytes -= size
        return False

    async def find(self, *, tenant_id: str, turn_id: str) -> str | None:
        """The JSON text of the first waiting entry of a turn; None if there is none. Raises StoreError."""
        rows = await self._rows(FIND, {"tenant": tenant_id, "turn": turn_id})
        return rows[0][0] if rows else None

    async def next(self, *, after: int, limit: int) -> list[Entry]:
        """The oldest entries after a number, without those that were set aside. Raises StoreError."""
        rows = await self._rows(
            "SELECT seq, body FROM entries WHERE seq > ? AND problem IS NULL ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [Entry(*row) for row in rows]

    async def remove(self, entries: Sequence[Entry]) -> list[Entry]:
        """Remove processed entries; those that `erase_spooled` has removed before. Raises StoreError."""
        if not entries:
            return []
        ids = json.dumps([entry.seq for entry in entries])
        removed = {seq for (seq,) in await self._rows(DELETE, (ids,))}
        self.waiting -= len(entries)
        self.bytes -= sum(len(entry.body) for entry in entries)
        return [entry for entry in entries if entry.seq not in removed]

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

    async def _rows(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
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
            self._lock = _locked(self._file)
            open_private(self._file, "ab").close()
        except OSError as error:
            raise StoreError(f"the spool {self._file} cannot be made: {error}") from error
        return others

    async def _take_over(self, other: Path) -> None:
        """Move the entries of an ended process here. A crash in between leaves them in both files."""
        lock = await call_in_executor(_locked, other)
        if lock is None:  # its process runs
            return
        try:
            bodies = [body for (body,) in await _entries(other, "SELECT body FROM entries ORDER BY seq")]
            for start in range(0, len(bodies), MAX_BATCH):
                await self._rows(INSERT, (json.dumps(bodies[start : start + MAX_BATCH]),))
            await call_in_executor(_remove, other)
        except sqlite3.Error as error:
            logger.error("the spool %s cannot be read, and stays: %s", other, error)
        finally:
            lock.close()


async def erase_spooled(folder: Path, tenant_id: str, user_id: str, *, dry_run: bool = False) -> int:
    """Erase the waiting turns of a user, and the feedback on them, from the files of all processes.

    Returns the number of entries. With `dry_run` nothing changes. Raises StoreError.
    """
    found = 0
    for file in await call_in_executor(lambda: sorted(folder.glob(f"*{SUFFIX}"))):
        try:
            numbers = await _entries(file, OF_USER, {"tenant": tenant_id, "user": user_id})
            if numbers and not dry_run:
                await _entries(file, DELETE, (json.dumps([seq for (seq,) in numbers]),))
        except sqlite3.Error as error:
            if not await call_in_executor(file.exists):  # its process has ended
                continue
            raise StoreError(f"the spool {file} cannot be read: {error}") from error
        found += len(numbers)
    return found


def copy_spools(folder: Path, snapshot: Path) -> list[Path]:
    """Copies of the files of all processes next to a snapshot of the database. Blocking.

    Raises StoreError, and leaves no copy then.
    """
    copies: list[Path] = []
    try:
        for file in sorted(folder.glob(f"*{SUFFIX}")):
            copies.append(snapshot.with_name(f"{snapshot.name}.{file.name}"))
            open_private(copies[-1], "xb").close()
            with closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
                connection.execute("VACUUM INTO ?", (str(copies[-1]),))
    except (sqlite3.Error, OSError) as error:
        for copy in copies:
            copy.unlink(missing_ok=True)
        raise StoreError(f"the spool {file} cannot be copied: {error}") from error
    return copies


async def _entries(file: Path, statement: str, values: Mapping[str, str] | Sequence[str] = ()) -> list[Any]:
    """The rows of a statement on a file of any process; none if the file is new. Raises sqlite3.Error."""
    connection = await _connect(file)
    try:
        if not await connection.execute_fetchall("SELECT 1 FROM sqlite_master WHERE name = 'entries'"):
            return []
        rows = list(await connection.execute_fetchall(statement, values))
        await connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")  # erased texts leave the disk
        return rows
    finally:
        await connection.close()


def _locked(file: Path) -> sqlite3.Connection | None:
    """The lock of the process of a file, for as long as it is open; None if its process runs. Blocking."""
    path = file.with_suffix(LOCK_SUFFIX)
    open_private(path, "ab").close()
    lock = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        lock.close()
        return None
    return lock


def _existing(file: Path) -> str:
    """The name of a file for SQLite, which does not make it: its process may have removed it."""
    return f"{file.absolute().as_uri()}?mode=rw"


async def _connect(file: Path, *, sync: bool = False) -> aiosqlite.Connection:
    """A connection to the file of any process. Raises sqlite3.Error."""
    connection = await aiosqlite.connect(
        _existing(file), uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S
    )
    try:
        for pragma in (*PRAGMAS, f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}"):
            await connection.execute_fetchall(pragma)
    except BaseException:
        await connection.close()
        raise
    return connection


def _remove(file: Path) -> None:
    names = (file.name, f"{file.name}-wal", f"{file.name}-shm", file.with_suffix(LOCK_SUFFIX).name)
    for name in names:
        file.with_name(name).unlink(missing_ok=True)
