"""API keys, sessions and the audit log of the service. They belong to the whole store, not to a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, select, update

from karen_learner.memory.tables import api_keys, audit_log, sessions
from karen_learner.records.access import ApiKey, AuditEntry, Session


def add_key(connection: Connection, key: ApiKey) -> None:
    """Store a new key."""
    connection.execute(insert(api_keys).values(**_values(key)))


def keys(connection: Connection) -> Sequence[ApiKey]:
    """All keys, oldest first, also revoked ones."""
    rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id))
    return [_key(row) for row in rows]


def revoke_key(connection: Connection, key_id: str, *, at: datetime) -> bool:
    """Revoke a key; whether there is such a key that was not revoked."""
    here = (api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
    return connection.execute(update(api_keys).where(*here).values(revoked_at=at)).rowcount > 0


def add_session(connection: Connection, session: Session, *, now: datetime) -> None:
    """Store a new session, and remove those that have expired."""
    connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
    connection.execute(insert(sessions).values(**dict(session)))


def session(connection: Connection, digest: str) -> Session | None:
    """The session with this digest, also an expired one; None for an unknown one."""
    row = connection.execute(select(sessions).where(sessions.c.digest == digest)).first()
    return None if row is None else Session(**row._mapping)


def end_session(connection: Connection, digest: str) -> None:
    """Remove a session."""
    connection.execute(delete(sessions).where(sessions.c.digest == digest))


def add_audit(connection: Connection, entries: Sequence[AuditEntry]) -> None:
    """Store entries of the audit log."""
    if entries:
        connection.execute(insert(audit_log), [dict(entry) for entry in entries])


def audit(
    connection: Connection, *, tenant_id: str | None = None, before: int | None = None, limit: int = 100
) -> Sequence[tuple[int, AuditEntry]]:
    """The newest entries with their `seq`, newest first: of a tenant or all, before the `seq` of `before`."""
    statement = select(audit_log).order_by(audit_log.c.seq.desc()).limit(limit)
    if tenant_id is not None:
        statement = statement.where(audit_log.c.tenant_id == tenant_id)
    if before is not None:
        statement = statement.where(audit_log.c.seq < before)
    return [
        (row.seq, AuditEntry(**{name: getattr(row, name) for name in AuditEntry.model_fields}))
        for row in connection.execute(statement)
    ]


def prune_audit(connection: Connection, *, before: datetime) -> int:
    """Remove the entries before this time; their number."""
    return connection.execute(delete(audit_log).where(audit_log.c.at < before)).rowcount


def _values(key: ApiKey) -> dict[str, object]:
    return {name: getattr(key, name) for name in ApiKey.model_fields} | {"tenants": list(key.tenants)}


def _key(row: Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(**{name: getattr(row, name) for name in ApiKey.model_fields})
