"""Outcomes of predictions and attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "outcomes",
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False),
        sa.Column("outcome_id", sa.Text, nullable=False),
        sa.Column("known_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("tenant", "outcome_id", name="outcomes_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("outcomes_by_time", "outcomes", ["tenant", "known_at"])
