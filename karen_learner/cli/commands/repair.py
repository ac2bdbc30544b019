"""`repair`: a live model that cannot be loaded is restored or trained anew."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.commands.learn import exit_code
from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, flag, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def repair(
    run: Context,
    tenant: Tenant,
    dry_run: Annotated[bool, flag("--dry-run", "Check files and backups. Change nothing.")] = False,
    force: Annotated[
        bool, flag("--force", "Train anew also a live model that is intact and cannot be loaded.")
    ] = False,
) -> int:
    """Verify the live model; restore it from its backup, or train it anew from the stored examples.

    Exit codes: 0 repaired or nothing to do, 7 intact but not loadable; after a training those of learn.
    """
    from karen_learner.cli.progress import learning_progress
    from karen_learner.cli.render_health import repair_report

    async with run.learner(tenant) as learner, learning_progress(run.output, learner):
        report = await learner.repair(tenant, dry_run=dry_run, force=force)
    run.output.result(report.to_dict(), *repair_report(report, dry_run=dry_run))
    if report.problem is not None:
        return ExitCode.UNHEALTHY
    return ExitCode.OK if report.cycle is None else exit_code(report.cycle)
