"""Recommendations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "recommendations",
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False),
        sa.Column("recommendation_id", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("tenant", "recommendation_id", name="recommendations_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("recommendations_by_topic", "recommendations", ["tenant", "topic", "seq"])
    op.create_index("recommendations_in_order", "recommendations", ["tenant", "seq"])
