"""A column for the mood of the turns before an example."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("examples", sa.Column("mood", sa.Text))
