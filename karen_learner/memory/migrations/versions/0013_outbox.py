"""Notifications that wait for delivery."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
WAITING = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("notification_id", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("message_id", sa.Text),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("is_delivered", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("error", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("notification_id", "target", name="outbox_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_by_topic", "outbox", ["target", "topic", "seq"])
    op.create_index("outbox_by_end", "outbox", ["target", "ended_at"])
    op.create_index(
        "outbox_waiting",
        "outbox",
        ["target", "next_at"],
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
