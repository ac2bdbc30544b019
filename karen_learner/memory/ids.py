"""Ids that a person has shortened: of cycles, versions and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, or_, select

from karen_learner.memory import tenants
from karen_learner.memory.tables import cycles, examples, versions
from karen_learner.records import IdKind

MAX_MATCHES = 5

_COLUMNS: Mapping[IdKind, Column[Any]] = {
    "cycle": cycles.c.cycle_id,
    "version": versions.c.version,
    "example": examples.c.example_id,
}


def matching(connection: Connection, tenant_id: str, kind: IdKind, part: str) -> Sequence[str]:
    """Up to five ids that equal the part, else those that begin with it, at all or after a hyphen."""
    column = _COLUMNS[kind]
    here = column.table.c.tenant == tenants.number_of(tenant_id)
    exact = connection.execute(select(column).where(here, column == part)).scalars().all()
    if exact or not part:
        return exact
    begins = or_(column.startswith(part, autoescape=True), column.contains(f"-{part}", autoescape=True))
    found = select(column).where(here, begins).order_by(column.table.c.seq.desc())
    return connection.execute(found.limit(MAX_MATCHES)).scalars().all()
