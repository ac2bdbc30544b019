"""Tickets of changes, and the measured effects of each."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, or_, select, update

from karen_learner.memory import tenants
from karen_learner.memory.tables import impacts, tickets
from karen_learner.memory.types import insert
from karen_learner.records.improvement import DEPLOYED, ImpactReport, Ticket


def add(connection: Connection, tenant_id: str, new: Ticket) -> bool:
    """Store a ticket. False, with nothing stored, if there is one with this id."""
    values = {
        "tenant": tenants.ensure(connection, tenant_id),
        "ticket_id": new.ticket_id,
        "body": new.to_dict(),
    }
    statement = insert(connection, tickets).values(values).on_conflict_do_nothing()
    return connection.execute(statement).rowcount == 1


def change(connection: Connection, tenant_id: str, before: Ticket, after: Ticket) -> bool:
    """Replace a stored ticket. False, with nothing stored, if it is not `before` any more."""
    here = (tickets.c.tenant == tenants.number_of(tenant_id), tickets.c.ticket_id == before.ticket_id)
    stored = connection.execute(select(tickets.c.body).where(*here)).scalar()
    if stored is None or Ticket(**stored) != before:
        return False
    connection.execute(update(tickets).where(*here).values(body=after.to_dict()))
    return True


def newest(connection: Connection, tenant_id: str, *, limit: int = 100) -> Sequence[Ticket]:
    """The newest tickets, newest first."""
    here = tickets.c.tenant == tenants.number_of(tenant_id)
    statement = select(tickets.c.body).where(here).order_by(tickets.c.seq.desc()).limit(limit)
    return [Ticket(**body) for body in connection.execute(statement).scalars()]


def find(connection: Connection, tenant_id: str, part: str) -> Sequence[Ticket]:
    """The ticket with this id, else up to five whose id or version begins or ends with it."""
    column, here = tickets.c.ticket_id, tickets.c.tenant == tenants.number_of(tenant_id)
    begins = [column.startswith(prefix + part, autoescape=True) for prefix in ("", DEPLOYED)]
    same = or_(*begins, column.endswith(part, autoescape=True))
    statement = select(tickets.c.body).where(here, same).order_by(tickets.c.seq.desc())
    exact = select(tickets.c.body).where(here, column == part)
    rows = connection.execute(exact).scalars().all() or connection.execute(statement.limit(5)).scalars().all()
    return [Ticket(**body) for body in rows]


def add_impact(connection: Connection, tenant_id: str, new: ImpactReport) -> bool:
    """Store a measured effect. False if there is one of this ticket and end of the period."""
    values = {
        "tenant": tenants.ensure(connection, tenant_id),
        "ticket_id": new.ticket_id,
        "period_end": new.period.end,
        "body": new.to_dict(),
    }
    statement = insert(connection, impacts).values(values).on_conflict_do_nothing()
    return connection.execute(statement).rowcount == 1


def impacts_of(
    connection: Connection, tenant_id: str, ticket_ids: Sequence[str] | None = None, *, limit: int = 1_000
) -> Sequence[ImpactReport]:
    """The newest measured effects of these tickets or of all, oldest first."""
    statement = select(impacts.c.body).where(impacts.c.tenant == tenants.number_of(tenant_id))
    if ticket_ids is not None:
        statement = statement.where(impacts.c.ticket_id.in_(ticket_ids))
    rows = connection.execute(statement.order_by(impacts.c.seq.desc()).limit(limit)).scalars().all()
    return [ImpactReport(**body) for body in reversed(rows)]
