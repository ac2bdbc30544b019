"""Reviews of texts by people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    tenant = sa.ForeignKey("tenants.tenant")
    op.create_table(
        "reviews",
        sa.Column("tenant", BIG_KEY, tenant, primary_key=True, autoincrement=False),
        sa.Column("item_id", sa.Text, primary_key=True),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("leased_until", sa.BigInteger, nullable=False),
        sa.Column("draft", sa.Text),
        sa.Column("decision", sa.Text),
        sa.Column("decided_at", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index("reviews_by_reviewer", "reviews", ["tenant", "reviewer", "decided_at"])
