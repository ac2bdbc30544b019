"""SQLite's checkpoints, beside the writer instead of in its way.

What a transaction writes goes to the write-ahead log first, and a checkpoint carries it over into the
database's own pages. SQLite does that in the middle of some unlucky commit, which then takes tens of
milliseconds. A passive checkpoint on another connection blocks neither writers nor readers. The writer's
own one (`wal_autocheckpoint`) stays as the bound of the log's size, and finds most of its work done.
See https://www.sqlite.org/wal.html, section 3.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

logger = logging.getLogger(__name__)

EVERY = 16
"""Transactions between two checkpoints: half a megabyte of ordinary turns."""


class CheckpointDue:
    """Counts transactions, and says when the next checkpoint is due. One at a time."""

    def __init__(self) -> None:
        self._written = 0
        self._running = False

    def after_commit(self) -> bool:
        """Whether this commit is the one after which a checkpoint should begin."""
        self._written += 1
        if self._running or self._written < EVERY:
            return False
        self._written, self._running = 0, True
        return True

    def done(self) -> None:
        """The checkpoint that was due has ended."""
        self._running = False


def checkpoint(connection: Connection) -> None:
    """Carry over what can be carried over without waiting for anybody."""
    try:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").close()
    except DBAPIError as error:  # nothing is lost: the next one, or the writer's own, does the work
        logger.debug("a checkpoint could not be made: %s", error)
