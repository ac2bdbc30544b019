"""Errors of the database drivers, as exceptions of this package."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from karen_learner.disk import free_text, is_full
from karen_learner.errors import InvalidInput, StoreError, StoreFull, StoreLocked, StoreNotOurs, StoreReadOnly

DATABASE_ERRORS = (
    SQLAlchemyError,
    sqlite3.Error,
    UnicodeEncodeError,
    OverflowError,
    OSError,
    asyncio.TimeoutError,
)
"""Errors of SQLAlchemy and the drivers. Use: `except DATABASE_ERRORS as error: raise translated(...)`."""

_LOCKED = (
    "is locked by another process: wait (it may migrate the schema), stop it, or raise store.busy_timeout_s"
)
_FULL = "cannot grow: the disk is full; free some space (`karen-learner prune`) and try again"
_ADVICE: tuple[tuple[str, type[StoreError], str], ...] = (
    (
        "readonly",
        StoreReadOnly,
        "cannot be written: give this user the right to write the file and its folder",
    ),
    (
        "unable to open",
        StoreReadOnly,
        "cannot be opened for writing: check that the folder exists and that this user may write there",
    ),
    ("locked", StoreLocked, _LOCKED),
    ("not a database", StoreNotOurs, "is not a database: choose another path with store.url"),
    ("disk is full", StoreFull, _FULL),
    (
        "malformed",
        StoreError,
        "is damaged: `karen-learner restore` unpacks a backup of the home, if one was made; "
        "`sqlite3 FILE .recover` saves the readable rows",
    ),
)
"""By parts of SQLite's messages (`sqlite3_errstr`): its error codes reach Python only from 3.11 on."""

_ACCESS_DENIED = "denies access to this user: check user and password in store.url, and pg_hba.conf"
_POOLER_IN_TRANSACTION_MODE = (
    "does not know a statement that this connection has prepared, or has another one of its name: let the "
    "pooler between them work in session mode (PgBouncer: pool_mode = session)"
)
_BY_SQLSTATE: dict[str, tuple[type[StoreError], str]] = {
    "25006": (StoreReadOnly, "is read-only, as a standby is: name the primary server in store.url"),
    "26000": (StoreError, _POOLER_IN_TRANSACTION_MODE),
    "28000": (StoreError, _ACCESS_DENIED),
    "28P01": (StoreError, _ACCESS_DENIED),
    "3D000": (StoreError, "does not exist: make it with createdb, or name another with store.url"),
    "42P05": (StoreError, _POOLER_IN_TRANSACTION_MODE),
    "42501": (StoreReadOnly, "cannot be used: give this user the right to make and write tables there"),
    "53100": (StoreFull, _FULL),
    "55P03": (StoreLocked, _LOCKED),
}
"""By PostgreSQL's codes: its messages are in the language of the server."""

_TEXT_TOO_LONG = "54000"
_UNUSABLE = frozenset({"OperationalError", "InterfaceError"})
_UNUSABLE_SQLSTATES = ("08", "53", "57", "58")
"""No connection, no resources, a server that starts or stops, and errors of its system."""


def translated(place: str, error: Exception) -> InvalidInput | StoreError:
    """The exception to raise for one of DATABASE_ERRORS: names the database `place` and the remedy.

    InvalidInput for a value that no database can store (a lone surrogate, 2 ** 64).
    """
    invalid = _input_error(error)
    if invalid is not None:
        return invalid
    driver_error = _driver_error(error)
    if isinstance(driver_error, (OSError, asyncio.TimeoutError)):
        return StoreError(f"the database {place} cannot be reached: {driver_error}")
    return _store_error(place, driver_error)


def is_about_the_database(error: BaseException) -> bool:
    """Whether a `translated` error would occur in any other write, too."""
    if isinstance(error, (StoreReadOnly, StoreLocked, StoreFull)):
        return True
    if error.__cause__ is None:
        return False
    cause = _driver_error(error.__cause__)
    unreachable = isinstance(cause, (OSError, asyncio.TimeoutError)) or type(cause).__name__ in _UNUSABLE
    return unreachable or _sqlstate(cause).startswith(_UNUSABLE_SQLSTATES)


def _input_error(error: BaseException) -> InvalidInput | None:
    """The error of a value, if the value is the problem. asyncpg wraps Python's exception in its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnicodeEncodeError):
            return InvalidInput(f"text that is not valid Unicode cannot be stored: {cause}")
        if isinstance(cause, OverflowError):
            return InvalidInput(f"a number beyond 64 bits cannot be stored: {cause}")
        cause = cause.__cause__
    driver_error = _driver_error(error)
    if _sqlstate(driver_error) == _TEXT_TOO_LONG:
        return InvalidInput(
            f"a text is too long for an index of PostgreSQL: shorten the name or id ({driver_error})"
        )
    return None


def _store_error(place: str, driver_error: BaseException) -> StoreError:
    message = str(driver_error).partition("\nDETAIL")[0]  # PostgreSQL's details contain values
    state = _sqlstate(driver_error)
    if state in _BY_SQLSTATE:
        kind, advice = _BY_SQLSTATE[state]
        return kind(f"the database {place} {advice} ({message})")
    if "disk i/o error" in message.lower() and Path(place).is_file() and is_full(Path(place)):
        message = "disk is full"  # a log could not grow
    for part, kind, advice in _ADVICE:
        if part in message.lower():
            free = f", {free_text(Path(place).parent)}" if kind is StoreFull and Path(place).is_file() else ""
            return kind(f"the database {place} {advice} ({message}{free})")
    return StoreError(f"the database {place} refused a statement: {message}")


def _driver_error(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _sqlstate(driver_error: BaseException) -> str:
    """PostgreSQL's code of an error; empty for SQLite."""
    return getattr(driver_error, "sqlstate", None) or ""
