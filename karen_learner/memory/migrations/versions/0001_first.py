"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _create_tenants()
    _create_turns()
    _create_examples()
    _create_groups_and_counters()
    _create_cycles_and_leases()
    _create_versions_and_lineage()


def downgrade() -> None:
    for table in (
        "lineage",
        "versions",
        "leases",
        "cycles",
        "counters",
        "groups",
        "examples",
        "turns",
        "tenants",
    ):
        op.drop_table(table)


def _number() -> sa.Column[int]:
    return sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True)


def _tenant() -> sa.Column[int]:
    return sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False)


def _partial_index(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _create_tenants() -> None:
    op.create_table(
        "tenants",
        sa.Column("tenant", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("champion", sa.Text),
        sa.Column("last_version_number", sa.Integer, nullable=False, server_default="0"),
        sqlite_autoincrement=True,
    )


def _create_turns() -> None:
    op.create_table(
        "turns",
        _number(),
        _tenant(),
        sa.Column("turn_id", sa.Text, nullable=False),
        sa.Column("awaiting_curation", sa.Boolean, nullable=False),
        sa.Column("has_words", sa.Boolean, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("tenant", "turn_id", name="turns_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("turns_in_order", "turns", ["tenant", "seq"])
    _partial_index("turns_awaiting", "turns", ["tenant", "seq"], "awaiting_curation")


def _create_examples() -> None:
    op.create_table(
        "examples",
        _number(),
        _tenant(),
        sa.Column("example_id", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("intent", sa.Text),
        sa.Column("sentiment", sa.Text),
        sa.Column("entities", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("quality", sa.Float, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("group_key", sa.Text, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("split", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("users", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("turn_id", sa.Text),
        sa.Column("draw", sa.Float, nullable=False),
        sa.Column("rejections", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("learned_in", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("tenant", "example_id", name="examples_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("examples_by_key", "examples", ["tenant", "key"])
    op.create_index("examples_by_turn", "examples", ["tenant", "turn_id"])
    op.create_index("examples_by_state", "examples", ["tenant", "state", "split", "seq"])
    _partial_index(
        "examples_to_replay",
        "examples",
        ["tenant", "stratum", "draw"],
        "state = 'learned' AND split = 'train'",
    )


def _create_groups_and_counters() -> None:
    op.create_table(
        "groups",
        _tenant(),
        sa.Column("group_key", sa.Text, nullable=False),
        sa.Column("split", sa.Text, nullable=False),
        sa.Column("members", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "group_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "counters",
        _tenant(),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "family", "name"),
        sqlite_with_rowid=False,
    )


def _create_cycles_and_leases() -> None:
    op.create_table(
        "cycles",
        _number(),
        _tenant(),
        sa.Column("cycle_id", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("result", sa.Text),
        sa.UniqueConstraint("tenant", "cycle_id", name="cycles_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("cycles_in_order", "cycles", ["tenant", "seq"])
    _partial_index("cycles_unfinished", "cycles", ["tenant", "seq"], "finished_at IS NULL")
    op.create_table(
        "leases",
        _tenant(),
        sa.Column("owner", sa.Text),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant"),
    )


def _create_versions_and_lineage() -> None:
    op.create_table(
        "versions",
        _number(),
        _tenant(),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("tenant", "version", name="versions_by_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("versions_in_order", "versions", ["tenant", "seq"])
    op.create_table(
        "lineage",
        sa.Column("version", BIG_KEY, sa.ForeignKey("versions.seq"), nullable=False),
        sa.Column("example", BIG_KEY, sa.ForeignKey("examples.seq"), nullable=False),
        sa.PrimaryKeyConstraint("version", "example"),
        sqlite_with_rowid=False,
    )
    op.create_index("lineage_by_example", "lineage", ["example", "version"])
