"""The inbox of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
IS_WAITING = sa.text("state = 'waiting'")


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("tenant", "key", name="inbox_by_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("inbox_by_state", "inbox", ["tenant", "state", "seq"])
    op.create_index("inbox_by_time", "inbox", ["tenant", "received_at"])
    op.create_index(
        "inbox_waiting", "inbox", ["tenant", "seq"], sqlite_where=IS_WAITING, postgresql_where=IS_WAITING
    )
