"""Masks of groups of near-duplicates and of people: the shadows that have learned from them.

A generation is the shadows of one full training and of the incremental cycles that continue them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, delete, select

from karen_learner.memory import leases, tenants
from karen_learner.memory.tables import masks
from karen_learner.memory.types import chunks, insert


def read(connection: Connection, tenant_id: str, generation: str, names: Sequence[str]) -> Mapping[str, int]:
    """The stored masks among these names."""
    here = (masks.c.tenant == tenants.number_of(tenant_id), masks.c.generation == generation)
    found: dict[str, int] = {}
    for piece in chunks(list(dict.fromkeys(names))):
        rows = connection.execute(select(masks.c.name, masks.c.mask).where(*here, masks.c.name.in_(piece)))
        found.update((name, mask) for name, mask in rows)
    return found


def exist(connection: Connection, tenant_id: str, generation: str) -> bool:
    """Whether the generation has masks."""
    here = (masks.c.tenant == tenants.number_of(tenant_id), masks.c.generation == generation)
    return connection.execute(select(masks.c.name).where(*here).limit(1)).first() is not None


def store(
    connection: Connection, tenant_id: str, generation: str, new: Mapping[str, int], *, token: int
) -> None:
    """Store the masks of a generation. Raises FencedOut."""
    leases.check(connection, tenant_id, token)
    add(connection, tenants.ensure(connection, tenant_id), generation, new)


def add(connection: Connection, tenant: int, generation: str, more: Mapping[str, int]) -> None:
    """Add bits to the masks of a generation."""
    if not more:
        return
    rows = [
        {"tenant": tenant, "generation": generation, "name": name, "mask": mask}
        for name, mask in more.items()
    ]
    statement = insert(connection, masks)
    united = {"mask": masks.c.mask.op("|")(statement.excluded.mask)}
    key = ["tenant", "generation", "name"]
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=united), rows)


def prune(connection: Connection, tenant_id: str, keep: Collection[str]) -> None:
    """Remove the masks of all generations except those in `keep`."""
    here = (masks.c.tenant == tenants.ensure(connection, tenant_id), masks.c.generation.not_in(list(keep)))
    connection.execute(delete(masks).where(*here))
