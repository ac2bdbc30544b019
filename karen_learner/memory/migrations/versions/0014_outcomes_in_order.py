"""Outcomes in the order of their commits, for readings that continue where they stopped."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_index("outcomes_in_order", "outcomes", ["tenant", "seq"])
