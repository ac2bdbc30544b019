"""`release`: examples that wait because of a rollback become pending."""

from __future__ import annotations

from karen_learner.cli.context import Context
from karen_learner.cli.options import DryRun, Tenant, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def release(run: Context, tenant: Tenant, dry_run: DryRun = False) -> int:
    """Make the examples that wait because of a rollback pending. The next cycle learns them.

    Exit code 4: no examples wait.
    """
    async with run.learner(tenant) as learner:
        count = (await learner.status(tenant)).counts.waiting
        if not dry_run:
            count = await learner.release(tenant)
    document = {"tenant_id": tenant, "done": not dry_run, "examples": count}
    run.output.result(document, f"{count} examples {'wait' if dry_run else 'are pending'}")
    return ExitCode.OK if count else ExitCode.SKIPPED
