"""The production log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NAMES = ("log_type", "session_id", "user_id", "turn_id")
NUMBERS = ("confidence", "seconds", "success", "quality", "approval", "potential")


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text) for name in NAMES),
        sa.Column("cluster", sa.Integer),
        sa.Column("method", sa.Text),
        sa.Column("template", sa.Text),
        *(sa.Column(name, sa.Float) for name in NUMBERS),
        sa.Column("reason", sa.Text),
        sa.Column("body", sa.Text),
        sa.UniqueConstraint("tenant", "key", name="decisions_by_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("decisions_by_time", "decisions", ["tenant", "at"])
    for name in ("user_id", "session_id", "turn_id"):
        op.create_index(f"decisions_by_{name[:-3]}", "decisions", [name], postgresql_using="hash")
