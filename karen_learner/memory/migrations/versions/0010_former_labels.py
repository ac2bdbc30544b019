"""Former labels: those that were renamed, merged or retired."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "former_labels",
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), primary_key=True, autoincrement=False),
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("successor", sa.Text),
        sqlite_with_rowid=False,
    )
