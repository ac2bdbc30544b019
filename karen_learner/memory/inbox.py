"""The inbox of events: an event is stored once under its key, before it is processed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, case, delete, func, select, type_coerce, update

from karen_learner.concurrency import chunks
from karen_learner.memory import outcomes as outcome_rows
from karen_learner.memory import strategies as strategy_rows
from karen_learner.memory import tenants
from karen_learner.memory.tables import IS_UNPROCESSED, inbox
from karen_learner.memory.types import insert
from karen_learner.records import Outcome
from karen_learner.records.strategies import StrategyTally
from karen_learner.records.stream import EventSums, InboxEvent, InboxState, NewEvent, StreamEvent

HOUR = 3_600_000_000
"""Microseconds."""
EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)


def add(connection: Connection, tenant_id: str, new: Sequence[NewEvent], *, now: datetime) -> int:
    """Store events. One with a stored key is the same event. The number of new ones.

    An event of the future counts as of `now`: a wrong clock must not outweigh all other events. One before
    1970 counts as of 1970.
    """
    if not new:
        return 0
    tenant = tenants.ensure(connection, tenant_id)
    rows = [
        {
            "tenant": tenant,
            "key": one.key,
            "at": max(EARLIEST, min(one.event.occurred_at or now, now)),
            "received_at": now,
            "state": "waiting",
            "body": one.event.model_dump_json(exclude_defaults=True),
        }
        for one in {one.key: one for one in reversed(new)}.values()
    ]
    statement = insert(connection, inbox).on_conflict_do_nothing().returning(inbox.c.seq)
    return len(connection.execute(statement, rows).all())


def waiting(connection: Connection, tenant_id: str, *, limit: int) -> Sequence[InboxEvent]:
    """The oldest events that wait for processing."""
    here = (inbox.c.tenant == tenants.number_of(tenant_id), IS_UNPROCESSED)
    return _events(connection.execute(select(inbox).where(*here).order_by(inbox.c.seq).limit(limit)).all())


def count_waiting(connection: Connection, tenant_id: str) -> int:
    """The number of events that wait. The cost depends on this number."""
    here = (inbox.c.tenant == tenants.number_of(tenant_id), IS_UNPROCESSED)
    return int(connection.execute(select(func.count()).select_from(inbox).where(*here)).scalar_one())


def newest(
    connection: Connection, tenant_id: str, *, limit: int, state: InboxState | None = None
) -> Sequence[InboxEvent]:
    """The newest events, oldest first: those in a state, or all that do not wait."""
    in_state = inbox.c.state != "waiting" if state is None else inbox.c.state == state
    here = (inbox.c.tenant == tenants.number_of(tenant_id), in_state)
    rows = connection.execute(select(inbox).where(*here).order_by(inbox.c.seq.desc()).limit(limit)).all()
    return _events(rows[::-1])


def finish(connection: Connection, tenant_id: str, seqs: Sequence[int], outcomes: Sequence[Outcome]) -> int:
    """Make waiting events `ready`, and store their outcomes. The number of those that waited."""
    outcome_rows.add(connection, tenant_id, outcomes)
    return len(_change(connection, tenant_id, seqs, former="waiting", state="ready"))


def learn(
    connection: Connection,
    tenant_id: str,
    learned: Sequence[tuple[int, StrategyTally]],
    *,
    half_life_s: float,
    reset: bool,
) -> int:
    """Add the tallies of events, and make these events `learned`. The number of used events.

    An event that another process has learned meanwhile is left out. With `reset`, all tallies of attempts are
    removed first, and learned events count again.
    """
    seqs = [seq for seq, _ in learned]
    used = set(_change(connection, tenant_id, seqs, former="ready", state="learned"))
    if reset:
        strategy_rows.remove_tallies(connection, tenant_id, ("attempts",))
        used = set(seqs)
    new = [tally for seq, tally in learned if seq in used]
    strategy_rows.add(connection, tenant_id, new, half_life_s=half_life_s)
    return len(used)


def sums(
    connection: Connection, tenant_id: str, *, start: datetime, split: datetime, end: datetime
) -> Sequence[EventSums]:
    """Sums over the events that arrived in each hour. The database adds them."""
    at, arrived = (type_coerce(column, BigInteger) for column in (inbox.c.at, inbox.c.received_at))
    hour, after = (arrived // HOUR).label("hour"), (inbox.c.received_at >= split).label("after")
    waiting_events = func.sum(case((IS_UNPROCESSED, 1), else_=0))
    columns = (func.count(), func.sum(arrived - at), waiting_events)
    here = (inbox.c.tenant == tenants.number_of(tenant_id), inbox.c.received_at >= start)
    statement = select(hour, after, *columns).where(*here, inbox.c.received_at < end).group_by(hour, after)
    return [
        EventSums(int(row[0]), bool(row[1]), int(row[2]), float(row[3]) / 1e6, int(row[4]))
        for row in connection.execute(statement)
    ]


def prune(connection: Connection, tenant_id: str, *, before: datetime) -> int:
    """Remove processed events that arrived before this time; their number."""
    tenant = tenants.ensure(connection, tenant_id)
    here = (inbox.c.tenant == tenant, inbox.c.received_at < before, inbox.c.state != "waiting")
    return connection.execute(delete(inbox).where(*here)).rowcount


def _change(
    connection: Connection, tenant_id: str, seqs: Sequence[int], *, former: InboxState, state: InboxState
) -> list[int]:
    tenant = tenants.ensure(connection, tenant_id)
    changed: list[int] = []
    for some in chunks(seqs):
        here = (inbox.c.tenant == tenant, inbox.c.state == former, inbox.c.seq.in_(some))
        statement = update(inbox).where(*here).values(state=state).returning(inbox.c.seq)
        changed += connection.execute(statement).scalars()
    return changed


def _events(rows: Sequence[Row[Any]]) -> list[InboxEvent]:
    return [event_of(row) for row in rows]


def event_of(row: Row[Any]) -> InboxEvent:
    """The event of a row."""
    return InboxEvent(row.seq, row.key, row.at, StreamEvent.model_validate_json(row.body))
