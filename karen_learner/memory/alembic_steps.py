"""Runs the missing migrations of a database with Alembic."""

from __future__ import annotations

import io

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from karen_learner.memory.schema import MIGRATIONS, VERSION_TABLE


def upgrade_to_head(connection: Connection) -> None:
    """Run the missing migrations in the transaction of `connection`."""
    config = migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def scripts() -> ScriptDirectory:
    """The shipped migrations."""
    return ScriptDirectory.from_config(migrations())


def migrations() -> Config:
    """The settings of Alembic for the shipped migrations."""
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = VERSION_TABLE
    return config
