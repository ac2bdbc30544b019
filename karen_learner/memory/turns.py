"""The rows of turns: how they are written and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError
from sqlalchemy import Connection, Row, Select, bindparam, select, update

from karen_learner.errors import InvalidInput
from karen_learner.memory import counters, tenants
from karen_learner.memory.counting import TURNS
from karen_learner.memory.dialects import chunks, insert
from karen_learner.memory.tables import IS_AWAITING, Condition, turns
from karen_learner.records import AwaitingTurn, Turn

Place = tuple[int, str]
"""Where a turn is: the number of its tenant, and its `turn_id`."""

_MOOD = '"mood":'

COLUMNS = ("tenant", "turn_id", "awaiting_curation", "has_words", "revision", "body")


@dataclass(frozen=True)
class StoredTurn:
    """A turn (with its `seq`) and what its row says beside it."""

    turn: Turn
    awaiting: bool
    revision: int


def serialised(turn: Turn) -> str:
    """The turn as JSON. Raises InvalidInput for text that is not Unicode and features not finite."""
    for name, value in turn.metadata.linguistic_features.items():
        if type(value) is float and not math.isfinite(value):
            raise InvalidInput(f"the linguistic feature {name!r} of the turn {turn.turn_id!r} is {value}")
    try:
        return turn.__pydantic_serializer__.to_json(turn).decode()
    except PydanticSerializationError as error:
        raise InvalidInput(f"the turn {turn.turn_id!r} cannot be stored: {error}") from error


def numbered(turn: Turn, seq: int) -> Turn:
    """The turn as stored.

    This is `turn.model_copy(update={"seq": seq})` at a third of its cost: every turn comes by here.
    """
    copy = Turn.__new__(Turn)
    object.__setattr__(copy, "__dict__", {**turn.__dict__, "seq": seq})
    object.__setattr__(copy, "__pydantic_fields_set__", turn.__pydantic_fields_set__ | {"seq"})
    object.__setattr__(copy, "__pydantic_extra__", None)
    object.__setattr__(copy, "__pydantic_private__", None)
    return copy


def add(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> Mapping[Place, int]:
    """Write the rows (values of `COLUMNS`) of turns that are not there yet; the `seq` of each of these."""
    statement = insert(connection, turns).on_conflict_do_nothing()
    values = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    if not values:
        return {}
    added = connection.execute(statement.returning(turns.c.tenant, turns.c.turn_id, turns.c.seq), values)
    return {(tenant, turn_id): seq for tenant, turn_id, seq in added}


def find(connection: Connection, places: Iterable[Place]) -> dict[Place, StoredTurn]:
    """Those of the turns that are stored."""
    wanted: dict[int, list[str]] = {}
    for tenant, turn_id in places:
        wanted.setdefault(tenant, []).append(turn_id)
    return {
        (row.tenant, row.turn_id): _stored(row)
        for tenant, turn_ids in wanted.items()
        for piece in chunks(turn_ids)
        for row in connection.execute(_rows(turns.c.tenant == tenant, turns.c.turn_id.in_(piece)))
    }


def replace(connection: Connection, changed: Mapping[Place, StoredTurn]) -> None:
    """Write turns over their rows."""
    rows = [
        {
            "number": stored.turn.seq,
            "awaiting_curation": stored.awaiting,
            "has_words": stored.turn.user_text is not None,
            "revision": stored.revision,
            "body": serialised(stored.turn),
        }
        for stored in changed.values()
    ]
    if rows:
        connection.execute(update(turns).where(turns.c.seq == bindparam("number")), rows)


def get(connection: Connection, tenant_id: str, turn_id: str) -> Turn | None:
    """One turn."""
    here = (turns.c.tenant == tenants.number_of(tenant_id), turns.c.turn_id == turn_id)
    row = connection.execute(select(turns.c.body, turns.c.seq).where(*here)).first()
    return None if row is None else _turn(row.body, row.seq)


def page(connection: Connection, tenant_id: str, *, after: int, size: int) -> Sequence[Turn]:
    """The next `size` turns after the number `after`."""
    return [stored.turn for stored in _page(connection, tenant_id, after, size)]


def awaiting_page(connection: Connection, tenant_id: str, *, after: int, size: int) -> Sequence[AwaitingTurn]:
    """The next `size` turns after the number `after` that await curation."""
    page = _page(connection, tenant_id, after, size, IS_AWAITING)
    return [AwaitingTurn(turn=stored.turn, revision=stored.revision) for stored in page]


def unlabelled(connection: Connection, tenant_id: str, *, limit: int) -> Sequence[Turn]:
    """Of the newest `limit` turns those with words and without feedback, newest first."""
    newest = _rows(turns.c.tenant == tenants.number_of(tenant_id)).order_by(turns.c.seq.desc()).limit(limit)
    worded = [_turn(row.body, row.seq) for row in connection.execute(newest) if row.has_words]
    return [turn for turn in worded if turn.feedback is None]


def mark_curated(connection: Connection, tenant: int, curated: Sequence[tuple[int, int]]) -> None:
    """Mark turns (seq, revision) as curated, except those that feedback has changed since."""
    by_revision: dict[int, list[int]] = {}
    for seq, revision in curated:
        by_revision.setdefault(revision, []).append(seq)
    marked = sum(_mark(connection, tenant, seqs, revision) for revision, seqs in by_revision.items())
    counters.add(connection, {tenant: {(TURNS, "awaiting_curation"): -marked}})


def _mark(connection: Connection, tenant: int, seqs: Sequence[int], revision: int) -> int:
    marked = 0
    for piece in chunks(seqs):
        here = (turns.c.tenant == tenant, turns.c.seq.in_(piece), turns.c.revision == revision, IS_AWAITING)
        marked += connection.execute(update(turns).where(*here).values(awaiting_curation=False)).rowcount
    return marked


def _page(
    connection: Connection, tenant_id: str, after: int, size: int, *where: Condition
) -> Sequence[StoredTurn]:
    here = (turns.c.tenant == tenants.number_of(tenant_id), turns.c.seq > after, *where)
    return [_stored(row) for row in connection.execute(_rows(*here).order_by(turns.c.seq).limit(size))]


def _rows(*where: Condition) -> Select[Any]:
    return select(turns).where(*where)


def _stored(row: Row[Any]) -> StoredTurn:
    return StoredTurn(_turn(row.body, row.seq), row.awaiting_curation, row.revision)


def _turn(body: str, seq: int) -> Turn:
    if _MOOD in body:  # what earlier releases wrote tells of moods
        values = json.loads(body)
        values.pop("mood", None)
        return numbered(Turn.model_validate(values), seq)
    return numbered(Turn.model_validate_json(body), seq)
