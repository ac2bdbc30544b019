"""`backup`: the whole home in one archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def backup(
    run: Context,
    file: Annotated[Path, argument("FILE", "New archive (.tar.gz).")],
) -> int:
    """Write database, models, backups of models and settings to a new archive, while the home is in use.

    With PostgreSQL, save the database with pg_dump and then the folders of the home.
    """
    from karen_learner.cli.render_health import home_backup

    async with run.learner() as learner:
        made = await learner.backup(file)
    run.output.result(made.to_dict(), *home_backup(made, run.home))
    return ExitCode.OK
