"""Notifications to people about problems of a home, and the state of their delivery."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from karen_learner.records.base import Record, new_id, utc_now

NotificationSeverity = Literal["warning", "critical"]
NotificationKind = Literal["problem", "recovery", "notice"]
"""`problem` begins a topic, `recovery` ends it, `notice` reports an event once."""

Title = Annotated[str, Field(min_length=1, max_length=300)]
Topic = Annotated[str, Field(min_length=1, max_length=300)]
Fact = float | int | str | None


class Notification(Record):
    """A message to people. It holds numbers, ids and names, and no text of a user.

    Problems of the same `topic` are one problem: it is reported once until its recovery.
    """

    notification_id: str = Field(default_factory=new_id)
    topic: Topic
    kind: NotificationKind = "problem"
    severity: NotificationSeverity = "warning"
    title: Title
    tenant_id: str | None = None
    facts: Mapping[str, Fact] = Field(default_factory=dict)
    at: datetime = Field(default_factory=utc_now)


class OutboxRow(Record):
    """A notification that one target has not accepted yet. `attempts` counts the present one."""

    seq: int
    target: str
    attempts: int
    created_at: datetime
    notification: Notification


class TargetState(Record):
    """Deliveries to one target. `failures`: attempts in a row that failed; `error`: the last one."""

    target: str
    waiting: int = 0
    delivered: int = 0
    given_up: int = 0
    failures: int = 0
    error: str | None = None
    oldest_waiting: datetime | None = None
    last_delivered: datetime | None = None


class Delivery(Record):
    """The result of one message to a target. `error` is None if the target has accepted it."""

    target: str
    notifications: int
    error: str | None = None
