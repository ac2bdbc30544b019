"""The holdback of each tenant: its row stays after its end, until another one begins."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from karen_learner.memory import tenants
from karen_learner.memory.tables import holdbacks
from karen_learner.memory.types import insert
from karen_learner.records import Holdback


def read(connection: Connection, tenant_id: str) -> Holdback | None:
    """The newest holdback of the tenant, also one that has ended."""
    here = holdbacks.c.tenant == tenants.number_of(tenant_id)
    row = connection.execute(select(holdbacks).where(here)).mappings().first()
    return None if row is None else Holdback(**{name: row[name] for name in Holdback.model_fields})


def begin(connection: Connection, tenant: int, new: Holdback) -> None:
    """Begin a holdback, unless one runs: that goes on, against all later versions."""
    values = dict(new)
    statement = insert(connection, holdbacks).values(tenant=tenant, **values)
    ended = holdbacks.c.ends_at <= new.started_at
    connection.execute(statement.on_conflict_do_update(index_elements=["tenant"], set_=values, where=ended))


def end(connection: Connection, tenant_id: str, version: str, *, at: datetime) -> bool:
    """End the holdback of this version at a time, if it runs; whether it did."""
    here = (holdbacks.c.tenant == tenants.number_of(tenant_id), holdbacks.c.version == version)
    running = update(holdbacks).where(*here, holdbacks.c.ends_at > at)
    return connection.execute(running.values(ends_at=at)).rowcount > 0


def remove(connection: Connection, tenant: int) -> None:
    """Remove the holdback: the versions that it measured were undone."""
    connection.execute(delete(holdbacks).where(holdbacks.c.tenant == tenant))
