"""The quick way of new turns into SQLite: four statements a batch, each one call to the driver.

SQLAlchemy makes four calls to the driver's thread for a statement, and those calls, not the database,
would be most of the time of a batch. Everything that is not a plain new turn goes the usual way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import aiosqlite

from karen_learner.memory.counting import Counts
from karen_learner.memory.dialects import chunks
from karen_learner.memory.intake import NewTurn, new_counts
from karen_learner.memory.turns import COLUMNS, Place


async def insert(driver: aiosqlite.Connection, rows: Sequence[tuple[int, NewTurn]]) -> Mapping[Place, int]:
    """Write those of the turns (with their tenants' numbers) that are new; the `seq` of each of these.

    Runs inside a transaction that the caller begins and commits.
    """
    added: dict[Place, int] = {}
    for piece in chunks(rows):
        values = (new.row(tenant) for tenant, new in piece)
        found = await driver.execute_fetchall(_insert_turns(len(piece)), _flat(values))
        added.update({(tenant, turn_id): seq for tenant, turn_id, seq in found})
    await _count(driver, new_counts(row for row in rows if (row[0], row[1].turn_id) in added))
    return added


async def _count(driver: aiosqlite.Connection, changes: Mapping[int, Counts]) -> None:
    rows = [(tenant, *name, amount) for tenant, counts in changes.items() for name, amount in counts.items()]
    for piece in chunks(rows):
        await driver.execute_fetchall(_add_to_counters(len(piece)), _flat(piece))


@lru_cache(maxsize=1024)
def _insert_turns(count: int) -> str:
    return (
        f"INSERT INTO turns ({', '.join(COLUMNS)}) VALUES {_places(count, len(COLUMNS))} "  # noqa: S608
        "ON CONFLICT DO NOTHING RETURNING tenant, turn_id, seq"
    )


@lru_cache(maxsize=1024)
def _add_to_counters(count: int) -> str:
    return (
        f"INSERT INTO counters (tenant, family, name, value) VALUES {_places(count, 4)} "  # noqa: S608
        "ON CONFLICT DO UPDATE SET value = value + excluded.value"
    )


def _places(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


def _flat(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    return list(chain.from_iterable(rows))
