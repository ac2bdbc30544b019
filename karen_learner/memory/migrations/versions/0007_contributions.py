"""Contributions: the labels that each person gives to a text.

Former releases stored an example with the number of its users, and only the first user and turn. The other
users become contributions with unknown users: their turns have invented names, so a later withdrawal of their
consent does not remove them. A second annotation that disputed an example was a second example; its labels
become a contribution, and that example is deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from karen_learner.memory.types import AnyText, Json

revision = "0007"
down_revision: str | None = "0006"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
PAGE = 500
SUFFIX = "~"
OF_EXAMPLES = ("harmful", "rolled back", "discarded")
"""Reasons that concern the example, not its labels."""
WITHOUT_CONTRIBUTION = ("consent", "withdrawn", "resolved")

LABELS = ("text", "intent", "sentiment", "entities")
examples = sa.table(
    "examples",
    *(sa.column(name, sa.BigInteger) for name in ("seq", "tenant", "users", "created_at")),
    *(
        sa.column(name, AnyText)
        for name in (
            "text",
            "intent",
            "sentiment",
            "source",
            "key",
            "group_key",
            "stratum",
            "split",
            "state",
            "user_id",
            "turn_id",
            "reason",
            "example_id",
        )
    ),
    sa.column("entities", Json),
    sa.column("quality", sa.Float),
)
contributions = sa.table(
    "contributions",
    *(sa.column(name, sa.BigInteger) for name in ("seq", "tenant", "occurred_at")),
    *(
        sa.column(name, AnyText)
        for name in ("key", "user_id", "turn_id", "source", "text", "intent", "sentiment", "reason")
    ),
    sa.column("entities", Json),
    sa.column("quality", sa.Float),
)
turns = sa.table(
    "turns",
    sa.column("tenant", sa.BigInteger),
    sa.column("turn_id", AnyText),
    sa.column("occurred_at", sa.BigInteger),
)
counters = sa.table(
    "counters",
    sa.column("tenant", sa.BigInteger),
    sa.column("family", AnyText),
    sa.column("name", AnyText),
    sa.column("value", sa.Float),
)
groups = sa.table(
    "groups",
    sa.column("tenant", sa.BigInteger),
    sa.column("group_key", AnyText),
    sa.column("members", sa.Integer),
)


def upgrade() -> None:
    _create_table()
    connection = op.get_bind()
    for page in _pages(connection):
        if rows := [row for example in page for row in _contributions(example)]:
            connection.execute(contributions.insert(), rows)
        _delete([example for example in page if _is_dissent(example)])
    op.create_index("contributions_by_key", "contributions", ["tenant", "key"])
    op.create_index("contributions_by_turn", "contributions", ["tenant", "turn_id"])
    op.create_index("contributions_by_user", "contributions", ["user_id"], postgresql_using="hash")
    unusable = sa.text("reason IS NOT NULL")
    op.create_index(
        "contributions_unusable",
        "contributions",
        ["tenant", "seq"],
        sqlite_where=unusable,
        postgresql_where=unusable,
    )


def _create_table() -> None:
    op.create_table(
        "contributions",
        sa.Column("seq", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("turn_id", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("intent", sa.Text),
        sa.Column("sentiment", sa.Text),
        sa.Column("entities", sa.Text),
        sa.Column("quality", sa.Float, nullable=False),
        sa.Column("occurred_at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text),
        sqlite_autoincrement=True,
    )


def _pages(connection: sa.Connection) -> Iterator[Sequence[Any]]:
    """All examples in pages, with the time of their turn as `said_at`."""
    of_turn = (turns.c.tenant == examples.c.tenant, turns.c.turn_id == examples.c.turn_id)
    said_at = sa.select(turns.c.occurred_at).where(*of_turn).correlate(examples).scalar_subquery()
    columns, after = sa.select(examples, said_at.label("said_at")), 0
    while page := connection.execute(
        columns.where(examples.c.seq > after).order_by(examples.c.seq).limit(PAGE)
    ).all():
        yield page
        after = page[-1].seq


def _contributions(example: Any) -> Iterator[dict[str, Any]]:
    """One row for each user of the example; the first has the known user and turn."""
    if not example.text or example.reason in WITHOUT_CONTRIBUTION:
        return
    further = max(0, example.users - 1)
    is_unusable = example.state == "quarantined" and example.reason not in OF_EXAMPLES
    row = {name: getattr(example, name) for name in ("tenant", "source", "user_id", "turn_id", *LABELS)}
    row["key"] = example.key.removesuffix(SUFFIX)
    row["quality"] = max(0.0, 1.0 - (1.0 - example.quality) * 2.0**further)
    row["occurred_at"] = example.created_at if example.said_at is None else example.said_at
    row["reason"] = example.reason if is_unusable else None
    yield row
    for number in range(further):
        yield row | {"user_id": None, "turn_id": f"{example.example_id}/{number + 2}"}


def _is_dissent(example: Any) -> bool:
    return str(example.key).endswith(SUFFIX)


def _delete(dissents: Sequence[Any]) -> None:
    """Delete examples, and subtract them from the counters and groups. No version has learned them."""
    connection = op.get_bind()
    for (tenant, group), members in Counter((each.tenant, each.group_key) for each in dissents).items():
        here = (groups.c.tenant == tenant, groups.c.group_key == group)
        connection.execute(groups.update().where(*here).values(members=groups.c.members - members))
        connection.execute(groups.delete().where(*here, groups.c.members <= 0))
    for (tenant, family, name), value in Counter(
        (each.tenant, *counter) for each in dissents for counter in _counted(each)
    ).items():
        same = (counters.c.tenant == tenant, counters.c.family == family, counters.c.name == name)
        connection.execute(counters.update().where(*same).values(value=counters.c.value - value))
    numbers = [each.seq for each in dissents]
    connection.execute(examples.delete().where(examples.c.seq.in_(numbers)))


def _counted(example: Any) -> Iterator[tuple[str, str]]:
    """Family and name of each counter that counts the example."""
    yield "examples", example.state
    yield f"strata/{example.state}/{example.split}", example.stratum
    if example.state != "quarantined":
        entities = {label for _, _, label in example.entities or ()}
        yield from (("labels/entities", label) for label in entities)
        for task in ("intent", "sentiment"):
            if (label := getattr(example, task)) is not None:
                yield f"labels/{task}", label
