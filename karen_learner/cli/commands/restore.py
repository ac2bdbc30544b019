"""`restore`: a home from an archive of `backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from asyncio_extras import call_in_executor

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, flag, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def restore(
    run: Context,
    file: Annotated[Path, argument("FILE", "Archive of `backup`.", exists=True, dir_okay=False)],
    dry_run: Annotated[
        bool, flag("--dry-run", "Check the archive against its digests. Change nothing.")
    ] = False,
) -> int:
    """Make the home (--home), which must be new or empty, from an archive of `backup`."""
    from karen_learner.cli.render_health import home_backup
    from karen_learner.models.home_archives import restore_home

    made = await call_in_executor(lambda: restore_home(file, run.home, dry_run=dry_run))
    run.output.result(made.to_dict() | {"home": str(run.home.absolute())}, *home_backup(made, run.home))
    return ExitCode.OK
