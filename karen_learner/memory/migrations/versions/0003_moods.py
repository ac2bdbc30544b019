"""A column for the mood of the turns before an example."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("examples", sa.Column("mood", sa.Text))


def downgrade() -> None:
    op.drop_column("examples", "mood")
