"""Replace splits by masks of groups and people.

Former holdout and dev examples are pending: the next cycle learns from them, and they judge.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LEARNED = "state = 'learned'"

examples = sa.table(
    "examples",
    sa.column("tenant", sa.BigInteger),
    sa.column("state", sa.Text),
    sa.column("stratum", sa.Text),
    sa.column("split", sa.Text),
    sa.column("is_gold", sa.Boolean),
)
counters = sa.table(
    "counters",
    sa.column("tenant", sa.BigInteger),
    sa.column("family", sa.Text),
    sa.column("name", sa.Text),
    sa.column("value", sa.Float),
)


def upgrade() -> None:
    _drop_indexes("examples_by_state", "examples_to_replay")
    op.drop_table("groups")
    op.drop_column("examples", "split")
    op.add_column("examples", sa.Column("is_gold", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("UPDATE examples SET is_gold = TRUE WHERE source IN ('seed', 'reviewed')")
    op.create_index("examples_by_state", "examples", ["tenant", "state", "is_gold", "seq"])
    _create_partial("examples_to_replay", LEARNED)
    _create_partial("examples_to_judge", LEARNED, "tenant", "is_gold", "stratum", "draw")
    _create_partial("gold_by_group", "is_gold", "tenant", "group_key")
    op.create_table(
        "masks",
        _tenant(),
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("mask", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "generation", "name"),
        sqlite_with_rowid=False,
    )
    kind = sa.case((examples.c.is_gold, "gold"), else_="feedback")
    _count(kind, sets={"gold": examples.c.is_gold})


def _tenant() -> sa.Column[int]:
    return sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False)


def _drop_indexes(*names: str) -> None:
    for name in names:
        op.drop_index(name, "examples")


def _create_partial(name: str, condition: str, *columns: str) -> None:
    where = sa.text(condition)
    on = columns or ("tenant", "stratum", "draw")
    op.create_index(name, "examples", list(on), sqlite_where=where, postgresql_where=where)


def _count(kind: sa.ColumnElement[str], *, sets: dict[str, sa.ColumnElement[bool]]) -> None:
    """Write the counters of strata and sets anew."""
    op.execute(
        "DELETE FROM counters WHERE family LIKE 'strata/%' "
        "OR family = 'sets' AND name IN ('pending_train', 'holdout', 'gold')"
    )
    here = examples.c
    family = sa.literal("strata/") + here.state + "/" + kind
    kinds = (here.tenant, family, here.stratum)
    _insert(sa.select(*kinds, sa.func.count()).group_by(*kinds))
    for name, condition in sets.items():
        counted = sa.select(here.tenant, sa.literal("sets"), sa.literal(name), sa.func.count())
        usable = here.state.in_(("pending", "learned"))
        _insert(counted.where(usable, condition).group_by(here.tenant))


def _insert(rows: sa.Select[tuple[object, ...]]) -> None:
    op.execute(counters.insert().from_select(["tenant", "family", "name", "value"], rows))
