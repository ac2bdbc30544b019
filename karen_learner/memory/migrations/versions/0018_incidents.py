"""Incidents, and remedies that a person has paused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
UNENDED = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "incidents",
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant")),
        sa.Column("incident_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("incident_id", name="incidents_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("incidents_in_order", "incidents", ["tenant", "seq"])
    op.create_index(
        "incidents_unended",
        "incidents",
        ["tenant", "type"],
        sqlite_where=UNENDED,
        postgresql_where=UNENDED,
    )
    op.create_table(
        "paused_remedies",
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant")),
        sa.Column("remedy", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("paused_by_tenant", "paused_remedies", ["tenant"])
