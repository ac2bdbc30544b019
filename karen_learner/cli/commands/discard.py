"""`discard`: examples that wait because of a rollback are excluded from learning."""

from __future__ import annotations

from karen_learner.cli.commands.rollback import confirmed
from karen_learner.cli.context import Context
from karen_learner.cli.options import DryRun, Tenant, Yes, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def discard(run: Context, tenant: Tenant, dry_run: DryRun = False, yes: Yes = False) -> int:
    """Exclude the examples that wait because of a rollback from learning.

    Asks for confirmation. Exit code 4: declined, or no examples wait.
    """
    async with run.learner(tenant) as learner:
        count = (await learner.status(tenant)).counts.waiting
        question = f"exclude {count} examples of {tenant!r} from learning?"
        done = count > 0 and not dry_run and (yes or confirmed(run, question))
        if done:
            count = await learner.discard(tenant)
    document = {"tenant_id": tenant, "done": done, "examples": count}
    run.output.result(document, f"{count} examples {'are discarded' if done else 'wait'}")
    return ExitCode.OK if count and (done or dry_run) else ExitCode.SKIPPED
