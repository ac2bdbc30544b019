"""The outbox: notifications that wait for delivery, one row for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, func, or_, select, update

from karen_learner.concurrency import chunks
from karen_learner.memory.tables import IS_WAITING, outbox
from karen_learner.memory.types import insert
from karen_learner.records.notifications import Notification, NotificationSeverity, OutboxRow, TargetState

MAX_WAITING = 5_000
"""Waiting notifications of one target; further ones are refused."""


def add(
    connection: Connection,
    new: Notification,
    due: Mapping[str, datetime],
    *,
    now: datetime,
    repeat: timedelta,
) -> int:
    """Queue a notification for targets, each due at a time. Returns the number of targets.

    Left out: a problem that was reported within `repeat` with the same or a higher severity. So are a
    recovery of a problem that was not reported, and notifications of a target with `MAX_WAITING` waiting
    ones.
    """
    wanted = [target for target in due if _is_news(connection, new, target, now - repeat)]
    rows = [
        {
            "notification_id": new.notification_id,
            "target": target,
            "topic": new.topic,
            "kind": new.kind,
            "severity": new.severity,
            "created_at": now,
            "next_at": due[target],
            "attempts": 0,
            "body": new.model_dump(mode="json"),
        }
        for target in wanted
        if _waiting(connection, target) < MAX_WAITING
    ]
    if rows:
        connection.execute(insert(connection, outbox).on_conflict_do_nothing(), rows)
    return len(rows)


def claim(
    connection: Connection, target: str, *, message_id: str, now: datetime, until: datetime, limit: int
) -> Sequence[OutboxRow]:
    """The notifications of the next message to a target, oldest first; none before one is due.

    Another process does not get them before `until`. A notification that no message contained yet is part of
    the message, even if it is not due itself.
    """
    here = (outbox.c.target == target, IS_WAITING)
    due = select(outbox.c.seq).where(*here, outbox.c.next_at <= now).limit(1)
    if connection.execute(due).first() is None:
        return ()
    ready = or_(outbox.c.next_at <= now, outbox.c.attempts == 0)
    statement = select(outbox).where(*here, ready).order_by(outbox.c.seq).limit(limit)
    found = connection.execute(statement).all()
    values = {"next_at": until, "attempts": outbox.c.attempts + 1, "message_id": message_id}
    seqs = [one.seq for one in found]
    connection.execute(update(outbox).where(outbox.c.seq.in_(seqs)).values(values))
    return [_row(one) for one in found]


def deliver(connection: Connection, seqs: Sequence[int], *, now: datetime) -> None:
    """Mark notifications as accepted by their target."""
    for piece in chunks(seqs):
        values = {"ended_at": now, "is_delivered": True, "error": None}
        connection.execute(update(outbox).where(outbox.c.seq.in_(piece)).values(values))


def retry(
    connection: Connection, next_at: Mapping[int, datetime | None], *, now: datetime, error: str
) -> None:
    """Record a failed attempt. A notification whose next time is None is given up."""
    for seq, at in next_at.items():
        values = {"error": error} | ({"ended_at": now} if at is None else {"next_at": at})
        connection.execute(update(outbox).where(outbox.c.seq == seq, IS_WAITING).values(values))


def messages_since(
    connection: Connection, target: str, severity: NotificationSeverity, since: datetime
) -> int:
    """The number of accepted messages to a target, with a notification of this severity."""
    here = (outbox.c.target == target, outbox.c.ended_at > since, outbox.c.severity == severity)
    count = select(func.count(outbox.c.message_id.distinct())).where(*here, outbox.c.is_delivered)
    return int(connection.execute(count).scalar_one())


def is_waiting(connection: Connection, target: str, severity: NotificationSeverity) -> bool:
    """Whether a notification of this severity waits for delivery to a target."""
    here = (outbox.c.target == target, outbox.c.severity == severity, IS_WAITING)
    return connection.execute(select(outbox.c.seq).where(*here).limit(1)).first() is not None


def states(connection: Connection) -> Sequence[TargetState]:
    """The state of each target with stored notifications, by name."""
    waiting = outbox.c.ended_at.is_(None)
    given_up = and_(~waiting, ~outbox.c.is_delivered)
    statement = select(
        outbox.c.target,
        func.sum(case((waiting, 1), else_=0)).label("waiting"),
        func.sum(case((outbox.c.is_delivered, 1), else_=0)).label("delivered"),
        func.sum(case((given_up, 1), else_=0)).label("given_up"),
        func.max(case((waiting, outbox.c.attempts), else_=0)).label("failures"),
        func.max(case((waiting, outbox.c.error))).label("error"),
        func.min(case((waiting, outbox.c.created_at))).label("oldest_waiting"),
        func.max(case((outbox.c.is_delivered, outbox.c.ended_at))).label("last_delivered"),
    ).group_by(outbox.c.target)
    return [TargetState(**one._mapping) for one in connection.execute(statement.order_by(outbox.c.target))]


def end_targets(connection: Connection, known: Sequence[str], *, now: datetime) -> int:
    """Give up the waiting notifications of all other targets than these; their number."""
    others = (outbox.c.target.not_in(list(known)), IS_WAITING)
    values = {"ended_at": now, "error": "the target was removed from the settings"}
    return connection.execute(update(outbox).where(*others).values(values)).rowcount


def prune(connection: Connection, *, before: datetime) -> int:
    """Remove the notifications whose delivery ended before this time; their number."""
    return connection.execute(delete(outbox).where(outbox.c.ended_at < before)).rowcount


def _is_news(connection: Connection, new: Notification, target: str, repeated_after: datetime) -> bool:
    if new.kind == "notice":
        return True
    here = (outbox.c.target == target, outbox.c.topic == new.topic, outbox.c.kind != "notice")
    last = connection.execute(select(outbox).where(*here).order_by(outbox.c.seq.desc()).limit(1)).first()
    was_problem = last is not None and last.kind == "problem"
    if new.kind == "recovery":
        return was_problem
    if last is None or not was_problem or last.created_at <= repeated_after:
        return True
    return bool(new.severity == "critical" and last.severity == "warning")


def _waiting(connection: Connection, target: str) -> int:
    here = (outbox.c.target == target, IS_WAITING)
    count = select(func.count()).select_from(outbox).where(*here)
    return int(connection.execute(count).scalar_one())


def _row(row: Row[Any]) -> OutboxRow:
    return OutboxRow(
        seq=row.seq,
        target=row.target,
        attempts=row.attempts + 1,
        created_at=row.created_at,
        notification=Notification(**row.body),
    )
