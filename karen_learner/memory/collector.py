"""What the group commit does with a batch: the quick way where it can, and nobody harmed by another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from karen_learner.memory import express, intake, tenants
from karen_learner.memory.database import Database
from karen_learner.memory.failures import is_about_the_database
from karen_learner.memory.intake import Incoming, NewTurn, Outcome
from karen_learner.memory.turns import Place, numbered
from karen_learner.records import Turn

T = TypeVar("T")
R = TypeVar("R")


class Collector:
    """Writes batches of new turns and feedback. Knows the numbers of the tenants it has met."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers: dict[str, int] = {}

    async def commit(self, items: Sequence[Incoming]) -> Sequence[Outcome]:
        """The outcome of each item, durable when this returns."""
        outcomes = await self._commit_plain(items) if self._database.is_sqlite else {}
        rest = [position for position in range(len(items)) if position not in outcomes]
        answers = await _apart(self._store, [items[position] for position in rest])
        outcomes.update(zip(rest, answers, strict=True))
        return [outcomes[position] for position in range(len(items))]

    async def _commit_plain(self, items: Sequence[Incoming]) -> dict[int, Outcome]:
        """Outcomes by position, without those of turns that turned out not to be new."""
        await self._learn_numbers({item.tenant_id for item in items if isinstance(item, NewTurn)})
        plain = dict(self._plain(items))
        answers = await _apart(self._insert, list(plain.values()))
        pairs = zip(plain, answers, strict=True)
        return {position: answer for position, answer in pairs if answer is not None}

    def _plain(self, items: Sequence[Incoming]) -> Iterator[tuple[int, tuple[int, NewTurn]]]:
        """The new turns of known tenants, each turn once, with their positions."""
        met: set[Place] = set()
        for position, item in enumerate(items):
            tenant = self._numbers.get(item.tenant_id)
            if tenant is not None and isinstance(item, NewTurn) and (tenant, item.turn_id) not in met:
                met.add((tenant, item.turn_id))
                yield position, (tenant, item)

    async def _insert(self, rows: Sequence[tuple[int, NewTurn]]) -> Sequence[Turn | None]:
        added = await self._database.write_directly(express.insert, rows)
        seqs = (added.get((tenant, new.turn_id)) for tenant, new in rows)
        return [
            None if seq is None else numbered(new.turn, seq) for seq, (_, new) in zip(seqs, rows, strict=True)
        ]

    async def _store(self, items: Sequence[Incoming]) -> Sequence[Outcome]:
        return await self._database.write(intake.store, items)

    async def _learn_numbers(self, tenant_ids: set[str]) -> None:
        unknown = tenant_ids - self._numbers.keys()
        if unknown:
            self._numbers.update(await self._database.read(tenants.find_all, sorted(unknown)))


async def _apart(
    write: Callable[[Sequence[T]], Awaitable[Sequence[R]]], items: Sequence[T]
) -> Sequence[R | Exception]:
    """What `write` answers; when it fails for the sake of some item, what it answers for each alone."""
    if not items:
        return []
    try:
        return await write(items)
    except Exception as error:  # whatever it is, it belongs to those who wait for these items
        if len(items) == 1 or is_about_the_database(error):
            return [error] * len(items)
    return [answer for item in items for answer in await _apart(write, [item])]
