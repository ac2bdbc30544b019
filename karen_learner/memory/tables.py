"""The tables, as SQLAlchemy Core metadata.

Other tables refer to a tenant by a number, because every index contains it. A tenant's name may have a
thousand characters.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    TextClause,
    UniqueConstraint,
    false,
    text,
)

from karen_learner.memory.types import AnyText, Json, Moment

metadata = MetaData()

Condition = ColumnElement[bool] | TextClause

BigKey = BigInteger().with_variant(Integer, "sqlite")
"""SQLite assigns numbers to an INTEGER PRIMARY KEY only."""

IS_AWAITING = text("awaiting_curation")
IS_GOLD = text("is_gold")
IS_LEARNED = text("state = 'learned'")
IS_UNFINISHED = text("finished_at IS NULL")
IS_UNUSABLE = text("reason IS NOT NULL")
IS_WAITING = text("ended_at IS NULL")
IS_UNPROCESSED = text("state = 'waiting'")
"""Conditions of the partial indexes. A query uses such an index only if it has the same condition
without bound parameters. So index and query share the constant."""


def _number() -> Column[int]:
    return Column("seq", BigKey, primary_key=True, autoincrement=True)


def _tenant(**options: Any) -> Column[int]:
    return Column("tenant", BigKey, ForeignKey("tenants.tenant"), nullable=False, **options)


def _link(name: str, target: str) -> Column[int]:
    return Column(name, BigKey, ForeignKey(target), primary_key=True, autoincrement=False)


def _partial(name: str, *columns: str, where: Any) -> Index:
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


def is_partial(index: Index) -> bool:
    """Whether the index has a condition."""
    return index.dialect_kwargs.get("sqlite_where") is not None


tenants = Table(
    "tenants",
    metadata,
    Column("tenant", BigKey, primary_key=True, autoincrement=True),
    Column("name", AnyText, nullable=False, unique=True),
    Column("last_version_number", Integer, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)

turns = Table(
    "turns",
    metadata,
    _number(),
    _tenant(),
    Column("turn_id", AnyText, nullable=False),
    Column("awaiting_curation", Boolean, nullable=False),
    Column("has_words", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("body", AnyText, nullable=False),
    Column("user_id", AnyText),
    Column("occurred_at", BigInteger),
    UniqueConstraint("tenant", "turn_id", name="turns_by_id"),
    Index("turns_in_order", "tenant", "seq"),
    Index("turns_by_user", "user_id", postgresql_using="hash"),
    Index("turns_by_time", "tenant", "occurred_at"),
    _partial("turns_awaiting", "tenant", "seq", where=IS_AWAITING),
    sqlite_autoincrement=True,
)
"""`body` is the turn as JSON. `revision` counts the changes by later feedback.

A user's id may be longer than an entry of a B-tree of PostgreSQL. So its index is a hash index there.
"""

examples = Table(
    "examples",
    metadata,
    _number(),
    _tenant(),
    Column("example_id", AnyText, nullable=False),
    Column("text", AnyText, nullable=False),
    Column("intent", AnyText),
    Column("sentiment", AnyText),
    Column("entities", Json),
    Column("source", AnyText, nullable=False),
    Column("quality", Float, nullable=False),
    Column("key", AnyText, nullable=False),
    Column("group_key", AnyText, nullable=False),
    Column("stratum", AnyText, nullable=False),
    Column("state", AnyText, nullable=False),
    Column("users", Integer, nullable=False),
    Column("user_id", AnyText),
    Column("turn_id", AnyText),
    Column("draw", Float, nullable=False),
    Column("rejections", Integer, nullable=False),
    Column("reason", AnyText),
    Column("learned_in", AnyText),
    Column("created_at", Moment, nullable=False),
    Column("is_gold", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("tenant", "example_id", name="examples_by_id"),
    Index("examples_by_key", "tenant", "key"),
    Index("examples_by_turn", "tenant", "turn_id"),
    Index("examples_by_state", "tenant", "state", "is_gold", "seq"),
    _partial("examples_to_replay", "tenant", "stratum", "draw", where=IS_LEARNED),
    _partial("examples_to_judge", "tenant", "is_gold", "stratum", "draw", where=IS_LEARNED),
    _partial("gold_by_group", "tenant", "group_key", where=IS_GOLD),
    sqlite_autoincrement=True,
)

contributions = Table(
    "contributions",
    metadata,
    _number(),
    _tenant(),
    Column("key", AnyText, nullable=False),
    Column("user_id", AnyText),
    Column("turn_id", AnyText),
    Column("source", AnyText, nullable=False),
    Column("text", AnyText, nullable=False),
    Column("intent", AnyText),
    Column("sentiment", AnyText),
    Column("entities", Json),
    Column("quality", Float, nullable=False),
    Column("occurred_at", Moment, nullable=False),
    Column("reason", AnyText),
    Index("contributions_by_key", "tenant", "key"),
    Index("contributions_by_turn", "tenant", "turn_id"),
    Index("contributions_by_user", "user_id", postgresql_using="hash"),
    _partial("contributions_unusable", "tenant", "seq", where=IS_UNUSABLE),
    sqlite_autoincrement=True,
)
"""The labels that each person gives to a text. Rows are inserted and deleted, never changed."""

masks = Table(
    "masks",
    metadata,
    _tenant(primary_key=True),
    Column("generation", AnyText, primary_key=True),
    Column("name", AnyText, primary_key=True),
    Column("mask", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Shadows of a generation that have learned from a group of near-duplicates or a person: bit k is shadow k.

Incremental cycles continue the shadows of a generation; each full training starts another one.
"""

counters = Table(
    "counters",
    metadata,
    _tenant(primary_key=True),
    Column("family", AnyText, primary_key=True),
    Column("name", AnyText, primary_key=True),
    Column("value", Float, nullable=False),
    Index("counters_by_family", "family", "name"),
    sqlite_with_rowid=False,
)

cycles = Table(
    "cycles",
    metadata,
    _number(),
    _tenant(),
    Column("cycle_id", AnyText, nullable=False),
    Column("mode", AnyText, nullable=False),
    Column("reason", AnyText),
    Column("stage", AnyText, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("result", Json),
    UniqueConstraint("tenant", "cycle_id", name="cycles_by_id"),
    Index("cycles_in_order", "tenant", "seq"),
    _partial("cycles_unfinished", "tenant", "seq", where=IS_UNFINISHED),
    sqlite_autoincrement=True,
)

leases = Table(
    "leases",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("name", AnyText, primary_key=True),
    Column("owner", AnyText),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", Moment, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    _number(),
    _tenant(),
    Column("version", AnyText, nullable=False),
    Column("body", Json, nullable=False),
    UniqueConstraint("tenant", "version", name="versions_by_name"),
    Index("versions_in_order", "tenant", "seq"),
    sqlite_autoincrement=True,
)

former_labels = Table(
    "former_labels",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("task", AnyText, primary_key=True),
    Column("label", AnyText, primary_key=True),
    Column("successor", AnyText),
    sqlite_with_rowid=False,
)
"""Labels that were renamed or merged; retired ones have no successor."""

aliases = Table(
    "aliases",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("name", AnyText, primary_key=True),
    Column("version", AnyText, nullable=False),
    sqlite_with_rowid=False,
)
"""Names of versions that change by compare-and-set, such as `champion`."""

holdbacks = Table(
    "holdbacks",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("version", AnyText, nullable=False),
    Column("share", Float, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("ends_at", Moment, nullable=False),
)
"""The version that a share of users keeps after a deployment."""

lineage = Table(
    "lineage",
    metadata,
    _link("version", "versions.seq"),
    _link("example", "examples.seq"),
    Index("lineage_by_example", "example", "version"),
    sqlite_with_rowid=False,
)

outcomes = Table(
    "outcomes",
    metadata,
    _number(),
    _tenant(),
    Column("outcome_id", AnyText, nullable=False),
    Column("known_at", Moment, nullable=False),
    Column("body", Json, nullable=False),
    UniqueConstraint("tenant", "outcome_id", name="outcomes_by_id"),
    Index("outcomes_by_time", "tenant", "known_at"),
    Index("outcomes_in_order", "tenant", "seq"),
    sqlite_autoincrement=True,
)
"""Results of predictions and attempts, for monitoring. `body` has the other values as JSON."""

inbox = Table(
    "inbox",
    metadata,
    _number(),
    _tenant(),
    Column("key", AnyText, nullable=False),
    Column("at", Moment, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("state", AnyText, nullable=False),
    Column("body", AnyText, nullable=False),
    UniqueConstraint("tenant", "key", name="inbox_by_key"),
    Index("inbox_by_state", "tenant", "state", "seq"),
    Index("inbox_by_time", "tenant", "received_at"),
    _partial("inbox_waiting", "tenant", "seq", where=IS_UNPROCESSED),
    sqlite_autoincrement=True,
)
"""Events of streams. The `key` makes a repeated event the same row. `body` is the event as JSON."""

strategies = Table(
    "strategies",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("kind", AnyText, primary_key=True),
    Column("domain", AnyText, primary_key=True),
    Column("name", AnyText, primary_key=True),
    Column("counts", Json, nullable=False),
    Column("at", Moment),
    sqlite_with_rowid=False,
)
"""Discounted tallies of strategies and of error types, as they were `at` this time.

The kinds `frozen` and `barred` are switches: `name` is a strategy, and `at` the end.
"""

outbox = Table(
    "outbox",
    metadata,
    _number(),
    Column("notification_id", AnyText, nullable=False),
    Column("target", AnyText, nullable=False),
    Column("topic", AnyText, nullable=False),
    Column("kind", AnyText, nullable=False),
    Column("severity", AnyText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("message_id", AnyText),
    Column("ended_at", Moment),
    Column("is_delivered", Boolean, nullable=False, server_default=false()),
    Column("error", AnyText),
    Column("body", Json, nullable=False),
    UniqueConstraint("notification_id", "target", name="outbox_by_id"),
    Index("outbox_by_topic", "target", "topic", "seq"),
    Index("outbox_by_end", "target", "ended_at"),
    _partial("outbox_waiting", "target", "next_at", where=IS_WAITING),
    sqlite_autoincrement=True,
)
"""Notifications, one row for each target. They belong to the home; `body` names the tenant."""

service_states = Table(
    "service_states",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("name", AnyText, primary_key=True),
    Column("value", Json, nullable=False),
    sqlite_with_rowid=False,
)
"""Small values of the autonomous service, such as the last result of the condition tree."""

schedules = Table(
    "schedules",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("name", AnyText, primary_key=True),
    Column("next_run", Moment, nullable=False),
    Column("body", Json, nullable=False),
    sqlite_with_rowid=False,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", AnyText, primary_key=True),
    Column("name", AnyText, nullable=False),
    Column("digest", AnyText, nullable=False),
    Column("role", AnyText, nullable=False),
    Column("tenants", Json, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("revoked_at", Moment),
)
"""Keys of the HTTP service, without their secrets."""

sessions = Table(
    "sessions",
    metadata,
    Column("digest", AnyText, primary_key=True),
    Column("key_id", AnyText, nullable=False),
    Column("expires_at", Moment, nullable=False),
)
"""Sessions of browsers at the dashboard, without the values of their cookies."""

audit_log = Table(
    "audit_log",
    metadata,
    _number(),
    Column("at", Moment, nullable=False),
    Column("caller", AnyText, nullable=False),
    Column("tenant_id", AnyText),
    Column("request", AnyText, nullable=False),
    Column("status", Integer, nullable=False),
    Index("audit_by_tenant", "tenant_id", "seq"),
    Index("audit_by_time", "at"),
    sqlite_autoincrement=True,
)
"""Requests to the HTTP service that changed something, read texts of users, or were refused."""
incidents = Table(
    "incidents",
    metadata,
    _number(),
    Column("tenant", BigKey, ForeignKey("tenants.tenant")),
    Column("incident_id", AnyText, nullable=False),
    Column("type", AnyText, nullable=False),
    Column("state", AnyText, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("revision", Integer, nullable=False),
    Column("body", Json, nullable=False),
    UniqueConstraint("incident_id", name="incidents_by_id"),
    Index("incidents_in_order", "tenant", "seq"),
    _partial("incidents_unended", "tenant", "type", where=IS_WAITING),
    sqlite_autoincrement=True,
)
"""Problems with their stories, in `body`. Without a tenant: of the home."""

paused_remedies = Table(
    "paused_remedies",
    metadata,
    _number(),
    Column("tenant", BigKey, ForeignKey("tenants.tenant")),
    Column("remedy", AnyText, nullable=False),
    Column("reason", AnyText, nullable=False),
    Column("at", Moment, nullable=False),
    Column("until", Moment),
    Index("paused_by_tenant", "tenant"),
    sqlite_autoincrement=True,
)
"""Remedies that a person has paused. Without a tenant: for all."""

decisions = Table(
    "decisions",
    metadata,
    _number(),
    _tenant(),
    Column("key", AnyText, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("log_type", AnyText),
    Column("session_id", AnyText),
    Column("user_id", AnyText),
    Column("turn_id", AnyText),
    Column("cluster", Integer),
    Column("method", AnyText),
    Column("template", AnyText),
    Column("confidence", Float),
    Column("seconds", Float),
    Column("success", Float),
    Column("quality", Float),
    Column("approval", Float),
    Column("potential", Float),
    Column("reason", AnyText),
    Column("body", AnyText),
    UniqueConstraint("tenant", "key", name="decisions_by_key"),
    Index("decisions_by_time", "tenant", "at"),
    Index("decisions_by_user", "user_id", postgresql_using="hash"),
    Index("decisions_by_session", "session_id", postgresql_using="hash"),
    Index("decisions_by_turn", "turn_id", postgresql_using="hash"),
    sqlite_autoincrement=True,
)
"""The production log. Corrupt entries have a `reason` and no values. `body` is the entry as JSON.

`body` is the last column: SQLite reads the numbers of a row without the pages of a long body.
"""

tickets = Table(
    "tickets",
    metadata,
    _number(),
    _tenant(),
    Column("ticket_id", AnyText, nullable=False),
    Column("body", Json, nullable=False),
    UniqueConstraint("tenant", "ticket_id", name="tickets_by_id"),
    Index("tickets_in_order", "tenant", "seq"),
    sqlite_autoincrement=True,
)
"""Planned and done changes. `body` is changed by compare-and-set."""

impacts = Table(
    "impacts",
    metadata,
    _number(),
    _tenant(),
    Column("ticket_id", AnyText, nullable=False),
    Column("body", Json, nullable=False),
    Column("period_end", Moment, nullable=False),
    UniqueConstraint("tenant", "ticket_id", "period_end", name="impacts_by_period"),
    sqlite_autoincrement=True,
)
"""Measured effects of tickets, one for each period."""

recommendations = Table(
    "recommendations",
    metadata,
    _number(),
    _tenant(),
    Column("recommendation_id", AnyText, nullable=False),
    Column("topic", AnyText, nullable=False),
    Column("body", Json, nullable=False),
    UniqueConstraint("tenant", "recommendation_id", name="recommendations_by_id"),
    Index("recommendations_by_topic", "tenant", "topic", "seq"),
    Index("recommendations_in_order", "tenant", "seq"),
    sqlite_autoincrement=True,
)
"""Recommendations with their status, in `body`. The `topic` is their category and metric."""

reviews = Table(
    "reviews",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("item_id", AnyText, primary_key=True),
    Column("reviewer", AnyText, nullable=False),
    Column("leased_until", Moment, nullable=False),
    Column("draft", Json),
    Column("decision", AnyText),
    Column("decided_at", Moment),
    Index("reviews_by_reviewer", "tenant", "reviewer", "decided_at"),
    sqlite_with_rowid=False,
)
"""Items that people have opened for review: their leases, drafts and decisions. Without texts of users."""

properties = Table(
    "properties",
    metadata,
    Column("name", AnyText, primary_key=True),
    Column("value", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Properties of the whole store."""
