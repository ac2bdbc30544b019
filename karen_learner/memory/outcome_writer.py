"""Writes batches of outcomes. On SQLite, they go to the driver itself as one statement for all rows.

The event loop only makes rows of them, in slices, so that other tasks run between. SQLAlchemy would hold it
for the whole batch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiosqlite

from karen_learner.memory import outcomes, tenants
from karen_learner.memory.database import Database
from karen_learner.records import Outcome
from karen_learner.records.base import to_micros

SLICE = 100
"""Outcomes that are serialized at once: less than a millisecond."""
INSERT = (
    "INSERT INTO outcomes (tenant, outcome_id, known_at, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
)


class OutcomeWriter:
    """Writes outcomes. Caches the numbers of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers: dict[str, int] = {}

    async def write(self, tenant_id: str, new: Sequence[Outcome]) -> None:
        """Store outcomes. One with a stored `outcome_id` is the same outcome: nothing changes."""
        if not new:
            return
        if not self._database.is_sqlite:
            await self._database.write((tenant_id,), outcomes.add, tenant_id, new)
            return
        if tenant_id not in self._numbers:
            number = await self._database.write((tenant_id,), tenants.ensure, tenant_id)
            self._numbers[tenant_id] = number
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(new), SLICE):
            rows += [_row(self._numbers[tenant_id], one) for one in new[start : start + SLICE]]
            await asyncio.sleep(0)
        await self._database.write_directly(_insert, rows)


def _row(tenant: int, one: Outcome) -> tuple[Any, ...]:
    body = one.model_dump(exclude_none=True, exclude={"outcome_id", "known_at"})
    return tenant, one.outcome_id, to_micros(one.known_at), json.dumps(body)


async def _insert(driver: aiosqlite.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    await driver.executemany(INSERT, rows)
