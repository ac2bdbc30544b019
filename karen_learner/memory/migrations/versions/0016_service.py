"""States and schedules of the autonomous service."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _create("service_states", sa.Column("value", sa.Text, nullable=False))
    _create(
        "schedules",
        sa.Column("next_run", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )


def _create(table: str, *columns: sa.Column[Any]) -> None:
    tenant = sa.ForeignKey("tenants.tenant")
    op.create_table(
        table,
        sa.Column("tenant", BIG_KEY, tenant, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        *columns,
        sqlite_with_rowid=False,
    )
