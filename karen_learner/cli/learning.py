"""`learn`: one learning cycle, or what it would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from karen_learner.cli.arguments import Mode, Tenant
from karen_learner.cli.exits import ExitCode, exit_for
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.render import plan

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import LearningCycleResult


@with_common_options
def learn(
    run: Invocation,
    tenant: Tenant,
    force: Annotated[
        bool, typer.Option("--force", help="Learn from fewer examples than learning.min_data_threshold.")
    ] = False,
    mode: Annotated[
        Mode, typer.Option(help="Go on from the live model, or train from the start; auto chooses.")
    ] = Mode.auto,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what a cycle would do now, and change nothing.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why, for the history.", metavar="WORDS", show_default=False)
    ] = None,
) -> int:
    """Run a learning cycle: curate, train, validate, and deploy the candidate if it is better.

    Exits with 0 deployed, 3 rejected, 4 skipped, 5 failed.

    With --dry-run 0 a cycle would run, 4 it would be skipped.
    """
    if dry_run:
        return _planned(run, tenant, force=force, mode=mode)
    from karen_learner.cli.render_cycle import cycle_result

    result = run.run(
        lambda learner: watched_cycle(learner, tenant, run.output, force=force, mode=mode, reason=reason),
        tenant=tenant,
    )
    run.output.result(result.to_dict(), *cycle_result(result, home=run.home))
    return exit_for(result.status)


def _planned(run: Invocation, tenant: str, *, force: bool, mode: Mode) -> int:
    planned = run.run(
        lambda learner: learner.plan_learning_cycle(tenant, force_training=force, mode=mode.value),
        tenant=tenant,
    )
    run.output.result(planned.to_dict(), *plan(planned))
    return ExitCode.OK if planned.would_run else ExitCode.SKIPPED


async def watched_cycle(
    learner: AutonomousLearner,
    tenant: str,
    output: Output,
    *,
    force: bool = False,
    mode: Mode = Mode.auto,
    reason: str | None = None,
) -> LearningCycleResult:
    """A cycle whose stages and passes are shown while they run."""
    from karen_learner.cli.progress import learning_progress

    with learning_progress(output) as progress:
        learner.events.subscribe(progress)
        result = await learner.trigger_learning_cycle(
            tenant, force_training=force, mode=mode.value, reason=reason
        )
        await learner.events.drain()
        return result


def register(app: typer.Typer) -> None:
    app.command()(learn)
