"""Names of tenants and their numbers in all other tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, ScalarSelect, exists, select

from karen_learner.concurrency import chunks
from karen_learner.memory.tables import aliases, counters, decisions, tenants
from karen_learner.memory.types import insert


def number_of(tenant_id: str) -> ScalarSelect[int]:
    """The tenant's number as a subquery; an unknown tenant matches no row."""
    return select(tenants.c.tenant).where(tenants.c.name == tenant_id).scalar_subquery()


def find(connection: Connection, tenant_id: str) -> int | None:
    """The tenant's number, if it has one."""
    return connection.execute(select(tenants.c.tenant).where(tenants.c.name == tenant_id)).scalar()


def find_all(connection: Connection, tenant_ids: Sequence[str]) -> Mapping[str, int]:
    """The numbers of the known tenants among these."""
    found: dict[str, int] = {}
    for piece in chunks(tenant_ids):
        statement = select(tenants.c.name, tenants.c.tenant).where(tenants.c.name.in_(piece))
        found.update((name, tenant) for name, tenant in connection.execute(statement))
    return found


def ensure(connection: Connection, tenant_id: str) -> int:
    """The tenant's number, assigned now if it has none."""
    known = find(connection, tenant_id)
    if known is not None:
        return known
    statement = insert(connection, tenants).values(name=tenant_id).returning(tenants.c.tenant)
    number: int = connection.execute(statement).scalar_one()
    return number


def page(connection: Connection, *, after: str | None = None, limit: int | None = None) -> Sequence[str]:
    """Tenants with data, oldest first, after the tenant `after`. A lease alone is no data."""
    has_data = (
        exists().where(counters.c.tenant == tenants.c.tenant)
        | exists().where(aliases.c.tenant == tenants.c.tenant)
        | exists().where(decisions.c.tenant == tenants.c.tenant)
    )  # fmt: skip
    statement = select(tenants.c.name).where(has_data).order_by(tenants.c.tenant).limit(limit)
    if after is not None:
        statement = statement.where(tenants.c.tenant > number_of(after))
    return connection.execute(statement).scalars().all()
