"""Incidents, and remedies that a person has paused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, false, or_, select, update

from karen_learner.memory import tenants
from karen_learner.memory.tables import IS_WAITING, incidents, paused_remedies
from karen_learner.memory.tables import tenants as names
from karen_learner.memory.types import insert
from karen_learner.records.incidents import Incident, RemedyPause


def save(connection: Connection, incident: Incident) -> Incident | None:
    """Store a new incident (revision 0), or a change of the stored one, with the next revision.

    None, with nothing stored, if another process has changed the incident, or a new one is open already.
    """
    if incident.revision == 0:
        return _insert(connection, incident)
    changed = incident.with_(revision=incident.revision + 1)
    here = (incidents.c.incident_id == incident.incident_id, incidents.c.revision == incident.revision)
    done = connection.execute(update(incidents).where(*here).values(**_columns(changed)))
    return changed if done.rowcount else None


def _insert(connection: Connection, incident: Incident) -> Incident | None:
    tenant = None if incident.tenant_id is None else tenants.ensure(connection, incident.tenant_id)
    here = (_of_tenant(incident.tenant_id), incidents.c.type == incident.type, IS_WAITING)
    if connection.execute(select(incidents.c.seq).where(*here).limit(1)).first() is not None:
        return None
    new = incident.with_(revision=1)
    values = {"tenant": tenant, "incident_id": new.incident_id, "type": new.type, **_columns(new)}
    connection.execute(insert(connection, incidents), values)
    return new


def unended(connection: Connection, *, limit: int = 1_000) -> Sequence[Incident]:
    """The incidents of all tenants that have not ended, oldest first."""
    statement = select(incidents.c.body).where(IS_WAITING).order_by(incidents.c.seq).limit(limit)
    return [Incident(**body) for body in connection.execute(statement).scalars()]


def newest(
    connection: Connection, tenant_id: str | None = None, *, since: datetime | None = None, limit: int = 100
) -> Sequence[Incident]:
    """The newest incidents of a tenant and of the home, or of all tenants, newest first."""
    statement = select(incidents.c.body).order_by(incidents.c.seq.desc()).limit(limit)
    if tenant_id is not None:
        statement = statement.where(or_(_of_tenant(tenant_id), _of_tenant(None)))
    if since is not None:
        statement = statement.where(incidents.c.updated_at >= since)
    return [Incident(**body) for body in connection.execute(statement).scalars()]


def find(
    connection: Connection, part: str, *, tenant_ids: Sequence[str | None] | None = None
) -> Sequence[Incident]:
    """Up to five incidents whose id begins or ends with the part; None among the tenants is the home."""
    column = incidents.c.incident_id
    here = or_(column.startswith(part, autoescape=True), column.endswith(part, autoescape=True))
    statement = select(incidents.c.body).where(here).order_by(incidents.c.seq.desc()).limit(5)
    if tenant_ids is not None:
        statement = statement.where(or_(false(), *map(_of_tenant, tenant_ids)))
    return [Incident(**body) for body in connection.execute(statement).scalars()]


def prune(connection: Connection, *, before: datetime) -> int:
    """Remove the incidents that ended before this time; their number."""
    return connection.execute(delete(incidents).where(incidents.c.ended_at < before)).rowcount


def pause(connection: Connection, new: RemedyPause) -> None:
    """Pause a remedy, in place of an earlier pause of the tenant."""
    resume(connection, new.remedy, new.tenant_id)
    tenant = None if new.tenant_id is None else tenants.ensure(connection, new.tenant_id)
    values = {
        "tenant": tenant, "remedy": new.remedy, "reason": new.reason, "at": new.at, "until": new.until,
    }  # fmt: skip
    connection.execute(insert(connection, paused_remedies), values)


def resume(connection: Connection, remedy: str, tenant_id: str | None) -> bool:
    """End a pause; whether there was one."""
    if tenant_id is None:
        here: ColumnElement[bool] = paused_remedies.c.tenant.is_(None)
    else:
        here = paused_remedies.c.tenant == tenants.number_of(tenant_id)
    statement = delete(paused_remedies).where(here, paused_remedies.c.remedy == remedy)
    return connection.execute(statement).rowcount > 0


def pauses(connection: Connection) -> Sequence[RemedyPause]:
    """All paused remedies."""
    table = paused_remedies
    joined = table.outerjoin(names, names.c.tenant == table.c.tenant)
    statement = select(table, names.c.name).select_from(joined).order_by(table.c.seq)
    return [
        RemedyPause(remedy=row.remedy, tenant_id=row.name, reason=row.reason, at=row.at, until=row.until)
        for row in connection.execute(statement)
    ]


def _of_tenant(tenant_id: str | None) -> ColumnElement[bool]:
    if tenant_id is None:
        return incidents.c.tenant.is_(None)
    return incidents.c.tenant == tenants.number_of(tenant_id)


def _columns(incident: Incident) -> dict[str, object]:
    return {
        "state": incident.state,
        "updated_at": incident.updated_at,
        "ended_at": incident.ended_at,
        "revision": incident.revision,
        "body": incident.model_dump(mode="json"),
    }
