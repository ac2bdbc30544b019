"""`prune`: files beyond retention are removed."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, flag, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def prune(
    run: Context,
    tenant: Annotated[str | None, argument("TENANT", "One tenant. Default: all tenants.")] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Show the files with their reasons. Change nothing.")] = False,
) -> int:
    """Remove versions, backups and corpora beyond retention. Each learning cycle does the same at its end.

    Champion and parent stay. The settings are learning.backup_retention_days, learning.corpus_retention_days
    and learning.retention_bytes.
    """
    from karen_learner.cli.render_health import pruned

    async with run.learner(tenant) as learner:
        names = [tenant] if tenant is not None else await learner.tenants()
        reports = {name: await learner.prune(name, dry_run=dry_run) for name in names}
        free = (await learner.health()).disk
    document = {
        "done": not dry_run,
        "bytes": sum(report.size for report in reports.values()),
        "free": free.free,
        "removed": [one.to_dict() for report in reports.values() for one in report.removed],
    }
    run.output.result(document, *pruned(list(reports.values()), free, run.home, dry_run=dry_run))
    return ExitCode.OK
