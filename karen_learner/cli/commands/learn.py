"""`learn`: one learning cycle, or its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, flag, option, with_common_options
from karen_learner.errors import ExitCode, cycle_exit_code

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import LearningCycleResult

MAX_CHARS = 200


@with_common_options
async def learn(
    run: Context,
    tenant: Tenant,
    force: Annotated[
        bool, flag("--force", "Train on fewer examples than learning.min_data_threshold.")
    ] = False,
    mode: Annotated[
        Literal["auto", "incremental", "full", "micro"],
        typer.Option(
            help="incremental continues the champion, full trains from scratch, auto decides between them; "
            "micro updates the served model in seconds until the next cycle."
        ),
    ] = "auto",
    dry_run: Annotated[bool, flag("--dry-run", "Show the plan of the cycle. Change nothing.")] = False,
    reason: Annotated[str | None, option("WORDS", "Reason for the history.")] = None,
) -> int:
    """Run a learning cycle: curate, train, validate, and deploy the candidate if the gates accept it.

    Exit codes: 0 deployed, 3 rejected, 4 skipped, 5 failed, 6 too close to call.

    With --dry-run: 0 the cycle would run, 4 it would be skipped.
    """
    from karen_learner.cli import render
    from karen_learner.cli.progress import learning_progress

    if dry_run:
        async with run.learner(tenant) as learner:
            plan = await learner.plan_learning_cycle(tenant, force_training=force, mode=mode)
        run.output.result(plan.to_dict(), *render.plan(plan))
        return ExitCode.OK if plan.would_run else ExitCode.SKIPPED
    async with run.learner(tenant) as learner, learning_progress(run.output, learner):
        result = await learner.trigger_learning_cycle(tenant, force_training=force, mode=mode, reason=reason)
        texts = await texts_of(learner, result)
    document = result.to_dict() | {"example_texts": texts}
    run.output.result(document, *render.cycle_result(result, home=run.home, texts=texts))
    return exit_code(result)


def exit_code(result: LearningCycleResult) -> ExitCode:
    """Exit code of a cycle."""
    return cycle_exit_code(result.status, result.verdict.decision if result.verdict else None)


async def texts_of(learner: AutonomousLearner, result: LearningCycleResult) -> dict[str, str]:
    """The beginnings of the texts that a result names, by example id. The store may have removed some."""
    errors = result.validation.errors if result.validation else ()
    ids = [name for error in errors for name in error.example_ids]
    ids += [flip.example_id for flip in result.flips.first] if result.flips else ()
    ids += [one.example_id for one in result.doubtful_labels]
    found = await learner.example_texts(result.tenant_id, ids)
    return {name: text[:MAX_CHARS] for name, text in found.items()}
