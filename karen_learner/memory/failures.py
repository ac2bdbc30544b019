"""What a database driver complains of, told in our own exceptions."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from karen_learner.errors import InvalidInput, StoreError, StoreLocked, StoreNotOurs, StoreReadOnly

_LOCKED = "is locked by another process: stop it, or raise store.busy_timeout_s"
_FULL = "cannot grow: the disk is full; free some space and try again"

_ADVICE: tuple[tuple[str, type[StoreError], str], ...] = (
    (
        "readonly",
        StoreReadOnly,
        "cannot be written: give this user the right to write the file and the folder it is in",
    ),
    (
        "unable to open",
        StoreReadOnly,
        "cannot be opened for writing: check that the folder exists and that this user may write there",
    ),
    (
        "locked",
        StoreLocked,
        _LOCKED,
    ),
    (
        "not a database",
        StoreNotOurs,
        "is not a database: choose another path with store.url",
    ),
    (
        "disk is full",
        StoreError,
        _FULL,
    ),
    (
        "malformed",
        StoreError,
        "is damaged: restore it from a backup",
    ),
)
"""SQLite's own words (`sqlite3_errstr`), since error codes reach Python only from 3.11 on."""

_NOT_LET_IN = "does not let this user in: check user and password in store.url, and the server's pg_hba.conf"
_BY_SQLSTATE: dict[str, tuple[type[StoreError], str]] = {
    "25006": (StoreReadOnly, "is read-only, as a standby is: name the primary server in store.url"),
    "28000": (StoreError, _NOT_LET_IN),
    "28P01": (StoreError, _NOT_LET_IN),
    "3D000": (StoreError, "does not exist: make it with createdb, or name another with store.url"),
    "42501": (StoreReadOnly, "cannot be used: give this user the right to make and write tables there"),
    "53100": (StoreError, _FULL),
    "55P03": (StoreLocked, _LOCKED),
}
"""PostgreSQL's codes, since its words are in the language of the server."""

_TEXT_TOO_LONG = "54000"

_HOPELESS = frozenset({"OperationalError", "InterfaceError"})
_HOPELESS_SQLSTATES = ("08", "53", "57", "58")
"""No connection, no resources, a server that starts or stops, and its own system's errors."""


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise what SQLAlchemy and the driver raise as a StoreError that names `place` and the mend.

    Text or a number that no database can hold (a lone surrogate, 2 ** 64) is InvalidInput.
    """
    try:
        yield
    except (UnicodeEncodeError, OverflowError, SQLAlchemyError, sqlite3.Error) as error:
        raise _input_error(error) or _store_error(place, error) from error
    except (OSError, asyncio.TimeoutError) as error:  # one and the same from Python 3.11 on
        raise StoreError(f"the database {place} cannot be reached: {error}") from error


def is_about_the_database(error: BaseException) -> bool:
    """Whether an error raised by `translated` would meet any other write as well."""
    return isinstance(error, (StoreReadOnly, StoreLocked)) or (
        error.__cause__ is not None and _is_hopeless(_driver_error(error.__cause__))
    )


def _is_hopeless(said: BaseException) -> bool:
    unreachable = isinstance(said, (OSError, asyncio.TimeoutError)) or type(said).__name__ in _HOPELESS
    return unreachable or _sqlstate(said).startswith(_HOPELESS_SQLSTATES)


def _input_error(error: BaseException) -> InvalidInput | None:
    """What is wrong with a value, if that is it. asyncpg wraps Python's complaint in its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnicodeEncodeError):
            return InvalidInput(f"text that is not valid Unicode cannot be stored: {cause}")
        if isinstance(cause, OverflowError):
            return InvalidInput(f"a number beyond 64 bits cannot be stored: {cause}")
        cause = cause.__cause__
    said = _driver_error(error)
    if _sqlstate(said) == _TEXT_TOO_LONG:
        return InvalidInput(f"a text is too long for an index of PostgreSQL: shorten the name or id ({said})")
    return None


def _store_error(place: str, error: Exception) -> StoreError:
    driver_error = _driver_error(error)
    said = str(driver_error)
    state = _sqlstate(driver_error)
    if state in _BY_SQLSTATE:
        kind, advice = _BY_SQLSTATE[state]
        return kind(f"the database {place} {advice} ({said})")
    for sign, kind, advice in _ADVICE:
        if sign in said.lower():
            return kind(f"the database {place} {advice} ({said})")
    return StoreError(f"the database {place} refused a statement: {said}")


def _driver_error(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _sqlstate(driver_error: BaseException) -> str:
    """PostgreSQL's code of an error; empty for SQLite's."""
    return getattr(driver_error, "sqlstate", None) or ""
