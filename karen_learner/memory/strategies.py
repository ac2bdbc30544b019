"""Tallies and switches of strategies. Tallies of several processes add up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from karen_learner.memory import tenants
from karen_learner.memory.tables import strategies
from karen_learner.memory.tables import tenants as tenant_rows
from karen_learner.memory.types import insert
from karen_learner.records.strategies import (
    StrategyState,
    StrategySwitch,
    StrategyTally,
    SwitchName,
    TallyKind,
    merged,
)

KEY = ("tenant", "kind", "domain", "name")
SWITCHES: tuple[SwitchName, ...] = ("frozen", "barred")


def read(connection: Connection, tenant_id: str) -> StrategyState:
    """All tallies and switches of a tenant."""
    here = strategies.c.tenant == tenants.number_of(tenant_id)
    in_order = select(strategies).where(here).order_by(*(strategies.c[name] for name in KEY))
    rows = connection.execute(in_order).all()
    return StrategyState(
        tallies=tuple(_tally(row) for row in rows if row.kind not in SWITCHES),
        switches=tuple(
            StrategySwitch(name=row.kind, domain=row.domain, strategy=row.name, until=row.at)
            for row in rows
            if row.kind in SWITCHES
        ),
    )


def add(connection: Connection, tenant_id: str, new: Sequence[StrategyTally], *, half_life_s: float) -> None:
    """Add tallies to the stored ones, each discounted to the later time."""
    tenant = tenants.ensure(connection, tenant_id)
    for one in new:
        here = (
            strategies.c.tenant == tenant,
            *(strategies.c[name] == getattr(one, name) for name in KEY[1:]),
        )
        stored = connection.execute(select(strategies).where(*here)).one_or_none()
        total = one if stored is None else merged(_tally(stored), one, half_life_s)
        _put(connection, tenant, *total.key, counts=dict(total.counts), at=total.at)


def remove_tallies(connection: Connection, tenant_id: str, kinds: Sequence[TallyKind]) -> None:
    """Remove all tallies of these kinds."""
    here = strategies.c.tenant == tenants.ensure(connection, tenant_id)
    connection.execute(delete(strategies).where(here, strategies.c.kind.in_(kinds)))


def put_switch(connection: Connection, tenant_id: str, switch: StrategySwitch) -> None:
    """Store a switch in place of those with its name and domain."""
    end_switch(connection, tenant_id, switch.name, switch.domain)
    tenant = tenants.ensure(connection, tenant_id)
    _put(connection, tenant, switch.name, switch.domain, switch.strategy, counts={}, at=switch.until)


def end_switch(connection: Connection, tenant_id: str, name: SwitchName, domain: str) -> None:
    """Remove the switch of this name in a domain."""
    tenant = tenants.ensure(connection, tenant_id)
    here = (strategies.c.tenant == tenant, strategies.c.kind == name, strategies.c.domain == domain)
    connection.execute(delete(strategies).where(*here))


def tenants_with_strategies(connection: Connection) -> Sequence[str]:
    """The tenants with tallies or switches, by name."""
    has_rows = tenant_rows.c.tenant.in_(select(strategies.c.tenant))
    statement = select(tenant_rows.c.name).where(has_rows).order_by(tenant_rows.c.name)
    return connection.execute(statement).scalars().all()


def _tally(row: Row[Any]) -> StrategyTally:
    return StrategyTally(kind=row.kind, domain=row.domain, name=row.name, counts=row.counts, at=row.at)


def _put(
    connection: Connection,
    tenant: int,
    kind: str,
    domain: str,
    name: str,
    *,
    counts: dict[str, float],
    at: datetime | None,
) -> None:
    values = {"counts": counts, "at": at}
    key = dict(zip(KEY, (tenant, kind, domain, name), strict=True))
    statement = insert(connection, strategies).values(**key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=KEY, set_=values))
