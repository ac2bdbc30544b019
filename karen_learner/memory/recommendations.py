"""Recommendations: one row for each, with its status."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from karen_learner.memory import tenants
from karen_learner.memory.tables import recommendations
from karen_learner.memory.types import insert
from karen_learner.records.improvement import Recommendation, RecommendationStatus

WANTED = ("open", "accepted")
SILENCE = timedelta(days=30)
"""Time after which a dismissed recommendation is made again."""


def save(connection: Connection, tenant_id: str, new: Sequence[Recommendation]) -> Sequence[Recommendation]:
    """Store recommendations; those that are stored now, with their ids.

    One about a metric with an open or accepted recommendation replaces the content of that one. One about a
    metric whose recommendation was dismissed within `SILENCE` is left out.
    """
    tenant = tenants.ensure(connection, tenant_id)
    return [kept for one in new if (kept := _save(connection, tenant, one)) is not None]


def _save(connection: Connection, tenant: int, new: Recommendation) -> Recommendation | None:
    topic = f"{new.category}/{new.metric}"
    here = (recommendations.c.tenant == tenant, recommendations.c.topic == topic)
    newest = select(recommendations.c.body).where(*here).order_by(recommendations.c.seq.desc()).limit(1)
    body = connection.execute(newest).scalar()
    last = None if body is None else Recommendation.model_validate(body)
    if last is not None and last.status in WANTED:
        new = new.model_copy(update={"id": last.id, "status": last.status, "created_at": last.created_at})
        _replace(connection, tenant, new)
        return new
    if last is not None and last.status == "dismissed":
        dismissed_at = last.changed_at or last.created_at
        if new.created_at - dismissed_at < SILENCE:
            return None
    row = {"tenant": tenant, "recommendation_id": new.id, "topic": topic, "body": new.to_dict()}
    connection.execute(insert(connection, recommendations).on_conflict_do_nothing(), [row])
    return new


def find(connection: Connection, tenant_id: str, recommendation_id: str) -> Recommendation | None:
    """A recommendation; None for an unknown one."""
    here = (
        recommendations.c.tenant == tenants.number_of(tenant_id),
        recommendations.c.recommendation_id == recommendation_id,
    )
    body = connection.execute(select(recommendations.c.body).where(*here)).scalar()
    return None if body is None else Recommendation.model_validate(body)


def newest(connection: Connection, tenant_id: str, *, limit: int) -> Sequence[Recommendation]:
    """The newest recommendations, newest first."""
    here = recommendations.c.tenant == tenants.number_of(tenant_id)
    statement = select(recommendations.c.body).where(here).order_by(recommendations.c.seq.desc()).limit(limit)
    return [Recommendation.model_validate(body) for body in connection.execute(statement).scalars()]


def mark(
    connection: Connection,
    tenant_id: str,
    recommendation_id: str,
    status: RecommendationStatus,
    *,
    now: datetime,
    details: str | None = None,
) -> Recommendation | None:
    """Change the status of a recommendation; None for an unknown one."""
    found = find(connection, tenant_id, recommendation_id)
    if found is None:
        return None
    values: dict[str, object] = {"status": status, "changed_at": now}
    if details is not None:
        values["implementation_details"] = details
    if status == "implemented":
        values["implemented_at"] = found.implemented_at or now
    changed = found.model_copy(update=values)
    _replace(connection, tenants.ensure(connection, tenant_id), changed)
    return changed


def _replace(connection: Connection, tenant: int, changed: Recommendation) -> None:
    here = (recommendations.c.tenant == tenant, recommendations.c.recommendation_id == changed.id)
    connection.execute(update(recommendations).where(*here).values(body=changed.to_dict()))
