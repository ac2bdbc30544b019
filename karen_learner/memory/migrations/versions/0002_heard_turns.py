"""A table of turns without feedback that a version learned from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "heard_turns",
        sa.Column("version", BIG_KEY, sa.ForeignKey("versions.seq"), nullable=False),
        sa.Column("turn", BIG_KEY, sa.ForeignKey("turns.seq"), nullable=False),
        sa.PrimaryKeyConstraint("version", "turn"),
        sqlite_with_rowid=False,
    )
    op.create_index("heard_turns_by_turn", "heard_turns", ["turn", "version"])
