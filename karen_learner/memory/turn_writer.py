"""Writes batches of new turns and feedback.

A batch on SQLite is a bulk insert of the new turns of known tenants through the driver itself. SQLAlchemy
calls the driver's thread four times for a statement, which would take most of the time. All other items are
written through SQLAlchemy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

import aiosqlite
from pydantic_core import PydanticSerializationError
from sqlalchemy import Connection, bindparam, update

from karen_learner.concurrency import chunks
from karen_learner.errors import InvalidInput, UnknownTurn
from karen_learner.memory import counters, curation, decisions, outcomes, tenants
from karen_learner.memory.counters import Counts, change, turn_counts, turn_kind
from karen_learner.memory.database import Database
from karen_learner.memory.db_errors import is_about_the_database
from karen_learner.memory.tables import turns
from karen_learner.memory.turns import Place, StoredTurn, find
from karen_learner.memory.types import insert
from karen_learner.records import Turn, UserFeedback
from karen_learner.records.base import to_micros

T = TypeVar("T")
R = TypeVar("R")

COLUMNS = (
    "tenant",
    "turn_id",
    "user_id",
    "occurred_at",
    "awaiting_curation",
    "has_words",
    "revision",
    "body",
)


class NewTurn:
    """A turn to store, with its JSON. Its constructor raises InvalidInput, so no batch fails for it."""

    __slots__ = ("body", "kind", "tenant_id", "turn", "turn_id")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn.permitted()
        self.body = _json(self.turn)
        self.kind = turn_kind(self.turn, awaiting=_awaits_curation(self.turn))
        self.tenant_id = turn.metadata.tenant_id
        self.turn_id = turn.metadata.turn_id

    @property
    def feedback(self) -> UserFeedback | None:
        return self.turn.feedback

    def row(self, tenant: int) -> tuple[Any, ...]:
        """The values of COLUMNS."""
        metadata = self.turn.metadata
        return (
            tenant,
            self.turn_id,
            metadata.user_id,
            to_micros(metadata.occurred_at),
            self.kind.awaiting_curation,
            self.turn.user_text is not None,
            0,
            self.body,
        )


@dataclass(frozen=True, slots=True)
class LateFeedback:
    """Feedback on a stored turn."""

    tenant_id: str
    turn_id: str
    feedback: UserFeedback

    @classmethod
    def of(cls, tenant_id: str, turn_id: str, feedback: UserFeedback) -> LateFeedback:
        """Raises InvalidInput for text that is not Unicode."""
        try:
            f"{tenant_id}{turn_id}".encode()
            feedback.model_dump_json()
        except (UnicodeEncodeError, PydanticSerializationError) as error:
            raise InvalidInput(f"feedback on {turn_id!r} cannot be stored: {error}") from error
        return cls(tenant_id, turn_id, feedback)


Incoming = NewTurn | LateFeedback
Result = Turn | Exception


class TurnWriter:
    """Writes batches of new turns and feedback. Caches the numbers of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers: dict[str, int] = {}

    async def write(self, items: Sequence[Incoming]) -> Sequence[Result]:
        """For each item the turn as stored, or its error. The turns are durable when this returns."""
        results = await self._insert_plain(items) if self._database.is_sqlite else {}
        rest = [position for position in range(len(items)) if position not in results]
        answers = await _separately(self._store, [items[position] for position in rest])
        results.update(zip(rest, answers, strict=True))
        return [results[position] for position in range(len(items))]

    async def _insert_plain(self, items: Sequence[Incoming]) -> dict[int, Result]:
        """Results by position of the turns that are new."""
        unknown = {item.tenant_id for item in items if isinstance(item, NewTurn)} - self._numbers.keys()
        if unknown:
            self._numbers.update(await self._database.read(tenants.find_all, sorted(unknown)))
        plain = dict(self._plain(items))
        answers = await _separately(self._insert, list(plain.values()))
        pairs = zip(plain, answers, strict=True)
        return {position: answer for position, answer in pairs if answer is not None}

    def _plain(self, items: Sequence[Incoming]) -> Iterator[tuple[int, tuple[int, NewTurn]]]:
        """Positions of the turns of known tenants that have words, each turn once."""
        seen: set[Place] = set()
        for position, item in enumerate(items):
            tenant = self._numbers.get(item.tenant_id)
            if tenant is not None and isinstance(item, NewTurn) and (tenant, item.turn_id) not in seen:
                seen.add((tenant, item.turn_id))
                if item.turn.user_text is not None:
                    yield position, (tenant, item)

    async def _insert(self, rows: Sequence[tuple[int, NewTurn]]) -> Sequence[Turn | None]:
        added = await self._database.write_directly(_bulk_insert, rows)
        seqs = (added.get((tenant, new.turn_id)) for tenant, new in rows)
        return [
            None if seq is None else new.turn.with_seq(seq) for seq, (_, new) in zip(seqs, rows, strict=True)
        ]

    async def _store(self, items: Sequence[Incoming]) -> Sequence[Result]:
        return await self._database.write({item.tenant_id for item in items}, store_all, items)


async def _separately(
    write: Callable[[Sequence[T]], Awaitable[Sequence[R]]], items: Sequence[T]
) -> Sequence[R | Exception]:
    """The results of `write`; if it fails because of some item, of a call for each item."""
    if not items:
        return []
    try:
        return await write(items)
    except Exception as error:  # the caller of each item receives it
        if len(items) == 1 or is_about_the_database(error):
            return [error] * len(items)
    return [answer for item in items for answer in await _separately(write, [item])]


async def _bulk_insert(
    driver: aiosqlite.Connection, rows: Sequence[tuple[int, NewTurn]]
) -> Mapping[Place, int]:
    """Insert the turns (with tenant numbers) that are new, and count them. Returns the `seq` of each."""
    added: dict[Place, int] = {}
    for piece in chunks(rows):
        values = list(chain.from_iterable(new.row(tenant) for tenant, new in piece))
        found = await driver.execute_fetchall(_insert_turns(len(piece)), values)
        added.update({(tenant, turn_id): seq for tenant, turn_id, seq in found})
    changes = _new_counts(row for row in rows if (row[0], row[1].turn_id) in added)
    amounts = [
        (tenant, *name, amount) for tenant, counts in changes.items() for name, amount in counts.items()
    ]
    for some in chunks(amounts):
        await driver.execute_fetchall(_add_to_counters(len(some)), list(chain.from_iterable(some)))
    return added


@lru_cache(maxsize=1024)
def _insert_turns(count: int) -> str:
    return (
        f"INSERT INTO turns ({', '.join(COLUMNS)}) VALUES {_placeholders(count, len(COLUMNS))} "  # noqa: S608
        "ON CONFLICT DO NOTHING RETURNING tenant, turn_id, seq"
    )


@lru_cache(maxsize=1024)
def _add_to_counters(count: int) -> str:
    return (
        f"INSERT INTO counters (tenant, family, name, value) VALUES {_placeholders(count, 4)} "  # noqa: S608
        "ON CONFLICT DO UPDATE SET value = value + excluded.value"
    )


def _placeholders(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


def store_all(connection: Connection, items: Sequence[Incoming]) -> Sequence[Result]:
    """Write a batch: for each item the turn as stored, or UnknownTurn."""
    numbers = _tenant_numbers(connection, items)
    places = [(numbers[item.tenant_id] or 0, item.turn_id) for item in items]  # 0: an unknown tenant
    first: dict[Place, NewTurn] = {}
    for place, item in zip(places, items, strict=True):
        if isinstance(item, NewTurn):
            first.setdefault(place, item)
    added = add(connection, [new.row(place[0]) for place, new in first.items()])
    _withdraw_decisions(connection, [place for place in added if first[place].turn.user_text is None])
    is_new = [first.get(place) is item and place in added for place, item in zip(places, items, strict=True)]
    before = find(
        connection, dict.fromkeys(place for place, new in zip(places, is_new, strict=True) if not new)
    )
    after = dict(before)
    results: list[Result] = []
    for place, item, new in zip(places, items, is_new, strict=True):
        if new and isinstance(item, NewTurn):
            results.append(item.turn.with_seq(added[place]))
        else:
            results.append(_merge(after, place, item))
    write_changes(connection, before, after)
    counters.add(connection, _new_counts((place[0], first[place]) for place in added))
    return results


def add(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> Mapping[Place, int]:
    """Insert rows (values of COLUMNS) of turns that are not stored yet. Returns the `seq` of each."""
    values = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    if not values:
        return {}
    statement = insert(connection, turns).on_conflict_do_nothing()
    added = connection.execute(statement.returning(turns.c.tenant, turns.c.turn_id, turns.c.seq), values)
    return {(tenant, turn_id): seq for tenant, turn_id, seq in added}


def _tenant_numbers(connection: Connection, items: Sequence[Incoming]) -> Mapping[str, int | None]:
    """A new turn assigns a number to its tenant; feedback does not."""
    known: dict[str, int | None] = {}
    for item in sorted(items, key=lambda item: isinstance(item, LateFeedback)):
        if item.tenant_id not in known:
            look_up = tenants.ensure if isinstance(item, NewTurn) else tenants.find
            known[item.tenant_id] = look_up(connection, item.tenant_id)
    return known


def _new_counts(added: Iterable[tuple[int, NewTurn]]) -> Mapping[int, Counts]:
    """Contribution of new turns (with tenant numbers) to the counters."""
    parts: dict[int, list[Counts]] = {}
    for (tenant, kind), times in Counter((tenant, new.kind) for tenant, new in added).items():
        parts.setdefault(tenant, []).append(turn_counts(kind, times))
    return {tenant: counters.total(counts) for tenant, counts in parts.items()}


def _merge(known: dict[Place, StoredTurn], place: Place, item: Incoming) -> Result:
    """The stored turn with the feedback of an item; `known` is updated if the turn changed."""
    stored = known.get(place)
    if stored is None:
        return UnknownTurn(f"the tenant {item.tenant_id!r} has no turn {item.turn_id!r} to give feedback on")
    if item.feedback is None:
        return stored.turn
    turn = stored.turn.with_feedback(item.feedback)
    if turn != stored.turn:  # repeated feedback, as after a lost answer, needs no curation
        known[place] = StoredTurn(turn, _awaits_curation(turn), stored.revision + 1)
    return turn


def write_changes(
    connection: Connection, before: Mapping[Place, StoredTurn], after: Mapping[Place, StoredTurn]
) -> None:
    """Replace stored turns. One that loses its text loses its contributions, log entries and correction."""
    changed = {place: new for place, new in after.items() if new is not before[place]}
    rows = [
        {
            "number": new.turn.seq,
            "awaiting_curation": new.awaiting,
            "has_words": new.turn.user_text is not None,
            "revision": new.revision,
            "user_id": new.turn.metadata.user_id,
            "body": _json(new.turn),
        }
        for new in changed.values()
    ]
    if rows:
        connection.execute(update(turns).where(turns.c.seq == bindparam("number")), rows)
    for tenant, turn_ids in _by_tenant(changed).items():
        counts = [
            change(_counts(before[tenant, turn_id]), _counts(changed[tenant, turn_id]))
            for turn_id in turn_ids
        ]
        counters.add(connection, {tenant: counters.total(counts)})
    withdrawn = [
        place
        for place, new in changed.items()
        if before[place].turn.user_text is not None and new.turn.user_text is None
    ]
    for tenant, turn_ids in _by_tenant(withdrawn).items():
        curation.withdraw(connection, tenant, turn_ids)
        outcomes.withdraw(connection, tenant, turn_ids)
    _withdraw_decisions(connection, withdrawn)


def _withdraw_decisions(connection: Connection, places: Iterable[Place]) -> None:
    """Remove the contents of the log entries of turns without words."""
    for tenant, turn_ids in _by_tenant(places).items():
        decisions.withdraw(connection, tenant, turn_ids=turn_ids)


def _by_tenant(places: Iterable[Place]) -> Mapping[int, Sequence[str]]:
    """The ids of turns by the number of their tenant."""
    found: dict[int, list[str]] = {}
    for tenant, turn_id in places:
        found.setdefault(tenant, []).append(turn_id)
    return found


def _counts(stored: StoredTurn) -> Counts:
    return turn_counts(turn_kind(stored.turn, awaiting=stored.awaiting))


def _awaits_curation(turn: Turn) -> bool:
    return turn.feedback is not None and turn.is_permitted


def _json(turn: Turn) -> str:
    """Raises InvalidInput for text that is not Unicode and features that are not finite."""
    for name, value in turn.metadata.linguistic_features.items():
        if type(value) is float and not math.isfinite(value):
            raise InvalidInput(f"the linguistic feature {name!r} of the turn {turn.turn_id!r} is {value}")
    try:
        return turn.__pydantic_serializer__.to_json(turn).decode()
    except PydanticSerializationError as error:
        raise InvalidInput(f"the turn {turn.turn_id!r} cannot be stored: {error}") from error
