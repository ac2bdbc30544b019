"""Incidents: problems that the troubleshooter found, with the story of their remedies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from karen_learner.records.base import Record, new_id
from karen_learner.records.notifications import Fact, NotificationSeverity

IncidentState = Literal["open", "applying", "verifying", "escalated", "resolved"]
"""`open`: the next remedy is due at `next_at`. `applying`, `verifying`: a remedy is in work, or is judged at
`next_at` at the latest. `escalated`: no remedy is left, people decide. `resolved`: the problem has ended."""
StoryKind = Literal[
    "reading", "diagnosis", "remedy", "failure", "verification", "undo", "escalation", "recovery", "person",
]  # fmt: skip
STORY_START, STORY_END = 20, 130
"""Entries of a long story that are kept from its start and its end."""


class Examination(Record):
    """The result of one diagnosis at one time. It contains no text of a user.

    `present` is None if it cannot be measured now. `value` is the reading `reading`, `limit` its limit.
    """

    present: bool | None
    reading: str
    summary: str = ""
    severity: NotificationSeverity = "warning"
    value: float | None = None
    limit: float | None = None
    facts: Mapping[str, Fact] = Field(default_factory=dict)


class StoryEntry(Record):
    """One event of an incident."""

    at: datetime
    kind: StoryKind
    text: str
    facts: Mapping[str, Fact] = Field(default_factory=dict)


class Incident(Record):
    """A problem of a tenant, or of the home (`tenant_id` None), from its first reading to its end.

    `type` is the name of the diagnosis. `attempts` counts the tried remedies. `remedy` is the present one,
    and `token` describes how to undo it. `kept` are the tokens of setting changes that helped, by remedy.
    `seen_cycle` is the newest cycle before the remedy, `owner` the process that applies it.
    `revision` counts the changes: a change of another one is refused.
    """

    incident_id: str = Field(default_factory=new_id)
    tenant_id: str | None
    type: str
    severity: NotificationSeverity
    state: IncidentState = "open"
    opened_at: datetime
    updated_at: datetime
    next_at: datetime
    ended_at: datetime | None = None
    remedy: str | None = None
    applied_at: datetime | None = None
    seen_cycle: str | None = None
    owner: str | None = None
    token: Mapping[str, Any] | None = None
    kept: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    attempts: Mapping[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    acknowledged: str | None = None
    silenced_until: datetime | None = None
    story: tuple[StoryEntry, ...] = ()
    revision: int = 0

    def told(
        self, at: datetime, kind: StoryKind, text: str, facts: Mapping[str, Fact] | None = None
    ) -> Incident:
        """The incident with one more entry of its story."""
        entry = StoryEntry(at=at, kind=kind, text=text, facts=facts or {})
        story = (*self.story, entry)
        if len(story) > STORY_START + STORY_END:
            story = (*story[:STORY_START], *story[-STORY_END:])
        return self.with_(story=story, updated_at=at)

    def with_(self, **changes: Any) -> Incident:
        """The incident with other values."""
        return self.model_copy(update=changes)


class RemedyPause(Record):
    """A remedy that a person has paused, for one tenant or for all (None), with the reason."""

    remedy: str
    tenant_id: str | None = None
    reason: str
    at: datetime
    until: datetime | None = None


class Issue(Record):
    """A problem that a diagnosis finds. `solutions` are the remedies in order, in words."""

    type: str
    severity: NotificationSeverity
    solutions: tuple[str, ...]
    tenant_id: str | None = None
    summary: str = ""
    facts: Mapping[str, Fact] = Field(default_factory=dict)
    incident_id: str | None = None
    state: IncidentState | None = None
    next_remedy: str | None = None
