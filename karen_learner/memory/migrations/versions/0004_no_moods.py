"""Remove the column for moods."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("examples", "mood")


def downgrade() -> None:
    op.add_column("examples", sa.Column("mood", sa.Text))
