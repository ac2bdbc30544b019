"""`bootstrap`: the first model of a tenant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karen_learner.cli.commands.ingest import import_file
from karen_learner.cli.context import Context
from karen_learner.cli.options import FirstMode, SourceFile, Tenant, with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.render import ingest_report
from karen_learner.errors import STATUS_EXIT_CODES

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import IngestReport, LearningCycleResult


@with_common_options
def bootstrap(
    run: Context,
    tenant: Tenant,
    file: SourceFile,
    mode: Annotated[FirstMode, typer.Option(help="Train from scratch, or continue the live model.")] = (
        FirstMode.full
    ),
) -> int:
    """Train the first model of a tenant from labelled texts. Later calls add texts and train again.

    Exit codes are those of learn.
    """
    from karen_learner.cli.render_cycle import cycle_result

    report, result = run.run(
        lambda learner: first_model(learner, tenant, file, mode, run.output), tenant=tenant, create=True
    )
    document = result.to_dict() | {"ingested": report.to_dict()}
    run.output.result(document, *ingest_report(report), *cycle_result(result, home=run.home))
    return STATUS_EXIT_CODES[result.status]


async def first_model(
    learner: AutonomousLearner, tenant: str, file: Path, mode: FirstMode, output: Output
) -> tuple[IngestReport, LearningCycleResult]:
    """`AutonomousLearner.bootstrap` with the report of skipped lines."""
    from karen_learner.cli.progress import learning_progress

    report = await import_file(learner, tenant, file, output)
    async with learning_progress(output, learner):
        result = await learner.trigger_learning_cycle(
            tenant, force_training=True, mode=mode.value, reason="bootstrap"
        )
    return report, result
