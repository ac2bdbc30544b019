"""Holdbacks, tickets of improvements, and their measured effects."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "holdbacks",
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), primary_key=True, autoincrement=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tickets",
        *_columns(),
        sa.UniqueConstraint("tenant", "ticket_id", name="tickets_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("tickets_in_order", "tickets", ["tenant", "seq"])
    op.create_table(
        "impacts",
        *_columns(),
        sa.Column("period_end", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("tenant", "ticket_id", "period_end", name="impacts_by_period"),
        sqlite_autoincrement=True,
    )


def _columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False),
        sa.Column("ticket_id", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
