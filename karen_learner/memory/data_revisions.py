"""A digest of the data of a tenant in a period: it changes with each new or changed row."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import Connection, func, select

from karen_learner.memory import tenants
from karen_learner.memory.tables import cycles, decisions, outcomes, turns
from karen_learner.records.base import to_micros


def of_period(connection: Connection, tenant_id: str, start: datetime, end: datetime) -> str:
    """The digest of turns with feedback, outcomes and decisions from `start` until `end`, and of cycles.

    Each part reads an index in the order of time, and for turns their rows.
    """
    tenant = tenants.number_of(tenant_id)
    first, last = to_micros(start), to_micros(end)
    parts = (
        select(func.count(), func.sum(turns.c.revision), func.max(turns.c.seq)).where(
            turns.c.tenant == tenant, turns.c.occurred_at >= first, turns.c.occurred_at < last
        ),
        select(func.count(), func.max(outcomes.c.seq)).where(
            outcomes.c.tenant == tenant, outcomes.c.known_at >= start, outcomes.c.known_at < end
        ),
        select(func.count(), func.max(decisions.c.seq)).where(
            decisions.c.tenant == tenant, decisions.c.at >= first, decisions.c.at < last
        ),
        select(func.count(), func.max(cycles.c.seq), func.max(cycles.c.finished_at)).where(
            cycles.c.tenant == tenant
        ),
    )
    counted = [tuple(connection.execute(part).one()) for part in parts]
    return hashlib.blake2b(repr(counted).encode(), digest_size=16).hexdigest()
