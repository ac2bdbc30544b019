"""Small values of the autonomous service by tenant and name, and its schedules.

A later value replaces an earlier one. The tenant "" stands for the home.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select

from karen_learner.memory import tenants
from karen_learner.memory.tables import schedules, service_states
from karen_learner.memory.tables import tenants as names
from karen_learner.memory.types import insert
from karen_learner.records.triggers import Schedule


def read(connection: Connection, tenant_id: str, name: str) -> Any:
    """The value; None without one."""
    here = (service_states.c.tenant == tenants.number_of(tenant_id), service_states.c.name == name)
    return connection.execute(select(service_states.c.value).where(*here)).scalar()


def write(connection: Connection, tenant_id: str, name: str, value: Any) -> None:
    """Store a JSON value; None removes it."""
    tenant = tenants.ensure(connection, tenant_id)
    if value is None:
        here = (service_states.c.tenant == tenant, service_states.c.name == name)
        connection.execute(delete(service_states).where(*here))
        return
    statement = insert(connection, service_states).values(tenant=tenant, name=name, value=value)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["tenant", "name"], set_={"value": value})
    )


def prune(connection: Connection, tenant_id: str, *, first: str, last: str) -> int:
    """Remove the values with a name from `first` on and before `last`; their number."""
    tenant, name = tenants.number_of(tenant_id), service_states.c.name
    here = (service_states.c.tenant == tenant, name >= first, name < last)
    return connection.execute(delete(service_states).where(*here)).rowcount


def all_schedules(connection: Connection) -> Sequence[Schedule]:
    """The schedules of all tenants, those that are due first."""
    statement = (
        select(schedules, names.c.name.label("tenant_name"))
        .join_from(schedules, names, schedules.c.tenant == names.c.tenant)
        .order_by(schedules.c.next_run, schedules.c.tenant, schedules.c.name)
    )
    return [
        Schedule(tenant_id=row.tenant_name, name=row.name, next_run=row.next_run, **row.body)
        for row in connection.execute(statement)
    ]


def save_schedule(connection: Connection, tenant_id: str, schedule: Schedule) -> None:
    """Store a schedule, in place of one with its name."""
    tenant = tenants.ensure(connection, tenant_id)
    body = schedule.model_dump(mode="json", exclude={"tenant_id", "name", "next_run"})
    values = {"next_run": schedule.next_run, "body": body}
    statement = insert(connection, schedules).values(tenant=tenant, name=schedule.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tenant", "name"], set_=values))


def remove_schedule(connection: Connection, tenant_id: str, name: str) -> None:
    """Remove a schedule, if it is there."""
    here = (schedules.c.tenant == tenants.ensure(connection, tenant_id), schedules.c.name == name)
    connection.execute(delete(schedules).where(*here))
