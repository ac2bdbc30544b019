"""`learn`: one learning cycle, or its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Mode, Tenant, with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.render import plan
from karen_learner.errors import STATUS_EXIT_CODES, ExitCode

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import LearningCycleResult


@with_common_options
def learn(
    run: Context,
    tenant: Tenant,
    force: Annotated[
        bool, typer.Option("--force", help="Train on fewer examples than learning.min_data_threshold.")
    ] = False,
    mode: Annotated[
        Mode, typer.Option(help="Continue the live model, or train from scratch; auto decides.")
    ] = Mode.auto,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan of the cycle. Change nothing.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Reason for the history.", metavar="WORDS", show_default=False)
    ] = None,
) -> int:
    """Run a learning cycle: curate, train, validate, and deploy the candidate if it is better.

    Exit codes: 0 deployed, 3 rejected, 4 skipped, 5 failed.

    With --dry-run: 0 the cycle would run, 4 it would be skipped.
    """
    if dry_run:
        return _show_plan(run, tenant, force=force, mode=mode)
    from karen_learner.cli.render_cycle import cycle_result

    result = run.run(
        lambda learner: run_cycle(learner, tenant, run.output, force=force, mode=mode, reason=reason),
        tenant=tenant,
    )
    run.output.result(result.to_dict(), *cycle_result(result, home=run.home))
    return STATUS_EXIT_CODES[result.status]


def _show_plan(run: Context, tenant: str, *, force: bool, mode: Mode) -> int:
    planned = run.run(
        lambda learner: learner.plan_learning_cycle(tenant, force_training=force, mode=mode.value),
        tenant=tenant,
    )
    run.output.result(planned.to_dict(), *plan(planned))
    return ExitCode.OK if planned.would_run else ExitCode.SKIPPED


async def run_cycle(
    learner: AutonomousLearner, tenant: str, output: Output, *, force: bool, mode: Mode, reason: str | None
) -> LearningCycleResult:
    """A cycle with progress bars."""
    from karen_learner.cli.progress import learning_progress

    async with learning_progress(output, learner):
        return await learner.trigger_learning_cycle(
            tenant, force_training=force, mode=mode.value, reason=reason
        )
