"""Reviews: one row for each item that a person has opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from karen_learner.concurrency import chunks
from karen_learner.memory import tenants
from karen_learner.memory.tables import reviews
from karen_learner.memory.types import insert
from karen_learner.records.base import to_micros
from karen_learner.records.reviews import Review, ReviewDecision


def claim(
    connection: Connection, tenant_id: str, item_id: str, reviewer: str, *, now: datetime, until: datetime
) -> Review | None:
    """The review, leased to this reviewer until a time; None if it is another one's, or decided."""
    stored = of_items(connection, tenant_id, [item_id]).get(item_id)
    if stored is not None and not _is_free(stored, reviewer, now):
        return None
    draft = None if stored is None or stored.reviewer != reviewer else stored.draft
    found = Review(item_id=item_id, reviewer=reviewer, leased_until=until, draft=draft)
    tenant = tenants.ensure(connection, tenant_id)
    values = dict(found)
    statement = insert(connection, reviews).values(tenant=tenant, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tenant", "item_id"], set_=values))
    return found


def _is_free(stored: Review, reviewer: str, now: datetime) -> bool:
    if stored.decision == "skipped":
        return stored.reviewer != reviewer
    if stored.decision is not None:
        return False
    return stored.reviewer == reviewer or to_micros(stored.leased_until) <= to_micros(now)


def of_items(connection: Connection, tenant_id: str, item_ids: Sequence[str]) -> Mapping[str, Review]:
    """The reviews of items, by id. Unopened items have none."""
    found: dict[str, Review] = {}
    for piece in chunks(list(dict.fromkeys(item_ids))):
        here = (reviews.c.tenant == tenants.number_of(tenant_id), reviews.c.item_id.in_(piece))
        found |= {row.item_id: _review(row) for row in connection.execute(select(reviews).where(*here))}
    return found


def last_decided(connection: Connection, tenant_id: str, reviewer: str) -> Review | None:
    """The review that a reviewer has decided last."""
    here = (reviews.c.tenant == tenants.number_of(tenant_id), reviews.c.reviewer == reviewer)
    statement = select(reviews).where(*here, reviews.c.decided_at.is_not(None))
    row = connection.execute(statement.order_by(reviews.c.decided_at.desc()).limit(1)).first()
    return None if row is None else _review(row)


def change(
    connection: Connection,
    tenant_id: str,
    item_id: str,
    reviewer: str,
    *,
    draft: Mapping[str, Any] | None,
    decision: ReviewDecision | None = None,
    decided_at: datetime | None = None,
) -> bool:
    """Write the draft and the decision of a review. False, with nothing written, if it is another one's.

    A draft that arrives after the decision is not written: it would open the item again.
    """
    here = [
        reviews.c.tenant == tenants.number_of(tenant_id),
        reviews.c.item_id == item_id,
        reviews.c.reviewer == reviewer,
    ]
    if draft is not None:
        here.append(reviews.c.decision.is_(None))
    values = {"draft": draft, "decision": decision, "decided_at": decided_at}
    return connection.execute(update(reviews).where(*here).values(**values)).rowcount > 0


def _review(row: Row[Any]) -> Review:
    return Review(**{name: getattr(row, name) for name in Review.model_fields})
