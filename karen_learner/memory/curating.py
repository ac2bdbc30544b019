"""Saving what curation decided, without losing feedback that came in the meantime."""

from __future__ import annotations

from sqlalchemy import Connection

from karen_learner.memory import examples, groups, leases, tenants, turns
from karen_learner.records import CurationWrite, ReadSet


def save_curation(
    connection: Connection,
    tenant_id: str,
    outcome: CurationWrite,
    token: int | None,
) -> bool:
    """Write one page of decisions, unless what they rest on was changed. Raises FencedOut."""
    tenant = tenants.ensure(connection, tenant_id)
    leases.check(connection, tenant, tenant_id, token)
    if outcome.read_set is not None:
        tenants.lock(connection, tenant)
        if not _holds(connection, tenant_id, outcome.read_set):
            return False
    examples.save(connection, tenant, outcome.upserts)
    turns.mark_curated(connection, tenant, outcome.curated)
    return True


def _holds(connection: Connection, tenant_id: str, read_set: ReadSet) -> bool:
    standing = examples.by_key(connection, tenant_id, list(read_set.examples))
    splits = groups.splits(connection, tenant_id, list(read_set.splits))
    return all(standing.get(key) == read for key, read in read_set.examples.items()) and all(
        splits.get(group) == read for group, read in read_set.splits.items()
    )
