"""Names of tenants, and the numbers that stand for them in every other table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, ScalarSelect, exists, select

from karen_learner.memory.dialects import chunks, insert
from karen_learner.memory.tables import counters, tenants


def number_of(tenant_id: str) -> ScalarSelect[int]:
    """The tenant's number, inside another statement; no row matches it when there is no such tenant."""
    return select(tenants.c.tenant).where(tenants.c.name == tenant_id).scalar_subquery()


def find(connection: Connection, tenant_id: str) -> int | None:
    """The tenant's number, if it has one."""
    return connection.execute(select(tenants.c.tenant).where(tenants.c.name == tenant_id)).scalar()


def find_all(connection: Connection, tenant_ids: Sequence[str]) -> Mapping[str, int]:
    """The numbers of those tenants that have one."""
    found: dict[str, int] = {}
    for piece in chunks(tenant_ids):
        statement = select(tenants.c.name, tenants.c.tenant).where(tenants.c.name.in_(piece))
        found.update((name, tenant) for name, tenant in connection.execute(statement))
    return found


def ensure(connection: Connection, tenant_id: str) -> int:
    """The tenant's number, given now if it has none."""
    known = find(connection, tenant_id)
    if known is not None:
        return known
    statement = insert(connection, tenants).values(name=tenant_id).returning(tenants.c.tenant)
    number: int = connection.execute(statement).scalar_one()
    return number


def names(connection: Connection) -> Sequence[str]:
    """The tenants that have data, the oldest first. (A lease alone is none.)"""
    has_data = exists().where(counters.c.tenant == tenants.c.tenant) | tenants.c.champion.is_not(None)
    return (
        connection.execute(select(tenants.c.name).where(has_data).order_by(tenants.c.tenant)).scalars().all()
    )


def lock(connection: Connection, tenant: int) -> None:
    """Let no other transaction decide on this tenant before this one has ended. On SQLite, where one
    transaction at a time writes, that is so already."""
    connection.execute(select(tenants.c.tenant).where(tenants.c.tenant == tenant).with_for_update())
