"""API keys of the service, the sessions that they open, and the audit log of their use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from karen_learner.records.base import Record, utc_now

Action = Literal["read", "converse", "operate", "administer"]
"""`read`: status and reports. `converse`: analyses, turns, feedback and outcomes. `operate`: cycles,
rollbacks, labels, quarantine. `administer`: stored turns, and the audit log."""
ACTIONS: tuple[Action, ...] = ("read", "converse", "operate", "administer")

Role = Literal["reader", "host", "operator", "admin"]
ROLES: Mapping[Role, frozenset[Action]] = {
    "reader": frozenset({"read"}),
    "host": frozenset({"read", "converse"}),
    "operator": frozenset({"read", "operate"}),
    "admin": frozenset(ACTIONS),
}
"""Actions of each role. `host` is the role of a chat product."""


class ApiKey(Record):
    """A key without its secret. `digest` is the SHA-256 of the secret, in hexadecimal digits.

    `tenants` are those that the key may name; empty: all. A key with `revoked_at` is refused.
    """

    key_id: str
    name: Annotated[str, Field(min_length=1, max_length=200)]
    digest: str
    role: Role
    tenants: tuple[str, ...] = ()
    created_at: datetime = Field(default_factory=utc_now)
    revoked_at: datetime | None = None

    def allows(self, action: Action) -> bool:
        """Whether the role of the key includes the action."""
        return action in ROLES[self.role]

    def may_name(self, tenant_id: str) -> bool:
        """Whether the key may use this tenant."""
        return not self.tenants or tenant_id in self.tenants


class Session(Record):
    """A session of a browser, which a key has opened. `digest` is the SHA-256 of the cookie's value."""

    digest: str
    key_id: str
    expires_at: datetime


class AuditEntry(Record):
    """A request that changed something, read texts of users, or was refused.

    `caller` is the id of the key, or "loopback" without keys. `request` is the method and the route, without
    texts of users. `status` is the HTTP status code of the answer.
    """

    at: datetime = Field(default_factory=utc_now)
    caller: str
    tenant_id: str | None = None
    request: str
    status: int
