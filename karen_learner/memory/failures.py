"""What a database driver complains of, told in our own exceptions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from karen_learner.errors import InvalidInput, StoreError, StoreLocked, StoreNotOurs, StoreReadOnly

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
        "is locked by another process: stop it, or raise store.busy_timeout_s",
    ),
    (
        "not a database",
        StoreNotOurs,
        "is not a database: choose another path with store.url",
    ),
    (
        "disk is full",
        StoreError,
        "cannot grow: the disk is full; free some space and try again",
    ),
    (
        "malformed",
        StoreError,
        "is damaged: restore it from a backup",
    ),
)
"""SQLite's own words (`sqlite3_errstr`), since error codes reach Python only from 3.11 on."""

_HOPELESS = frozenset({"OperationalError", "InterfaceError"})


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise what SQLAlchemy and the driver raise as a StoreError that names `place` and the mend.

    Text or a number that no database can hold (a lone surrogate, 2 ** 64) is InvalidInput.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidInput(f"text that is not valid Unicode cannot be stored: {error}") from error
    except OverflowError as error:
        raise InvalidInput(f"a number beyond 64 bits cannot be stored: {error}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _store_error(place, error) from error
    except OSError as error:
        raise StoreError(f"the database {place} cannot be reached: {error}") from error


def is_about_the_database(error: BaseException) -> bool:
    """Whether an error raised by `translated` would meet any other write as well."""
    return isinstance(error, (StoreReadOnly, StoreLocked)) or (
        error.__cause__ is not None and type(_driver_error(error.__cause__)).__name__ in _HOPELESS
    )


def _store_error(place: str, error: Exception) -> StoreError:
    said = str(_driver_error(error))
    for sign, kind, advice in _ADVICE:
        if sign in said.lower():
            return kind(f"the database {place} {advice} ({said})")
    return StoreError(f"the database {place} refused a statement: {said}")


def _driver_error(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
