"""Aliases, named leases, users and times of turns, and counters by version.

Turns are read and updated in pages, so the memory that this needs does not depend on their number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa
from alembic import op

from karen_learner.memory.types import AnyText

revision = "0005"
down_revision: str | None = "0004"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
PAGE = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

turns = sa.table(
    "turns",
    sa.column("seq", sa.BigInteger),
    sa.column("tenant", sa.BigInteger),
    sa.column("body", AnyText),
    sa.column("user_id", AnyText),
    sa.column("occurred_at", sa.BigInteger),
)
counters = sa.table(
    "counters",
    sa.column("tenant", sa.BigInteger),
    sa.column("family", AnyText),
    sa.column("name", AnyText),
    sa.column("value", sa.Float),
)


def upgrade() -> None:
    _create_aliases()
    op.drop_table("heard_turns")
    _replace_leases()
    op.create_index("counters_by_family", "counters", ["family", "name"])
    op.add_column("turns", sa.Column("user_id", sa.Text))
    op.add_column("turns", sa.Column("occurred_at", sa.BigInteger))
    _fill_turns_and_counters()
    op.create_index("turns_by_user", "turns", ["user_id"], postgresql_using="hash")
    op.create_index("turns_by_time", "turns", ["tenant", "occurred_at"])


def _tenant() -> sa.Column[int]:
    return sa.Column("tenant", BIG_KEY, sa.ForeignKey("tenants.tenant"), nullable=False)


def _create_aliases() -> None:
    op.create_table(
        "aliases",
        _tenant(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO aliases (tenant, name, version) "
        "SELECT tenant, 'champion', champion FROM tenants WHERE champion IS NOT NULL"
    )
    op.drop_column("tenants", "champion")


def _replace_leases() -> None:
    """SQLite cannot alter a primary key, so the table is replaced by a new one."""
    op.create_table(
        "new_leases",
        _tenant(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name"),
    )
    op.execute("INSERT INTO new_leases SELECT tenant, 'cycle', owner, token, expires_at FROM leases")
    op.drop_table("leases")
    op.rename_table("new_leases", "leases")


def _fill_turns_and_counters() -> None:
    connection = op.get_bind()
    counts: Counter[tuple[int, str, str]] = Counter()
    update = (
        turns.update()
        .where(turns.c.seq == sa.bindparam("number"))
        .values(user_id=sa.bindparam("user"), occurred_at=sa.bindparam("time"))
    )
    for page in _pages(connection):
        rows = []
        for seq, tenant, body in page:
            turn = json.loads(body)
            metadata = turn["metadata"]
            time = _micros(metadata["occurred_at"])
            rows.append({"number": seq, "user": metadata["user_id"], "time": time})
            if metadata["model_version"] is not None:
                family = f"version/{metadata['model_version']}"
                counts.update((tenant, family, name) for name in _counted(turn))
        connection.execute(update, rows)
    values = [
        {"tenant": tenant, "family": family, "name": name, "value": count}
        for (tenant, family, name), count in counts.items()
    ]
    for start in range(0, len(values), PAGE):
        connection.execute(counters.insert(), values[start : start + PAGE])


def _pages(connection: sa.Connection) -> Iterator[Sequence[Any]]:
    columns, after = sa.select(turns.c.seq, turns.c.tenant, turns.c.body), 0
    while page := connection.execute(
        columns.where(turns.c.seq > after).order_by(turns.c.seq).limit(PAGE)
    ).all():
        yield page
        after = page[-1].seq


def _counted(turn: Mapping[str, Any]) -> Iterator[str]:
    feedback = turn["feedback"]
    yield "turns"
    if feedback is not None:
        yield "with_feedback"
        corrections = ("corrected_intent", "corrected_sentiment", "corrected_entities")
        if any(feedback[name] is not None for name in corrections):
            yield "corrections"
    if turn["metadata"]["degraded"]:
        yield "degraded"


def _micros(value: str) -> int:
    moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return (aware - EPOCH) // timedelta(microseconds=1)
