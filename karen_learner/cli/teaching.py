"""`ingest` and `bootstrap`: a tenant learns from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from karen_learner.cli.arguments import FirstMode, SourceFile, Tenant
from karen_learner.cli.exits import ExitCode, exit_for
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.render import ingest_report
from karen_learner.errors import InvalidInput

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import IngestReport, LearningCycleResult


@with_common_options
def ingest(run: Invocation, tenant: Tenant, file: SourceFile) -> int:
    """Import conversation turns or labelled texts from a file.

    Labelled texts wait for the next cycle. Lines that cannot be used are told and left out.
    """
    report = run.run(lambda learner: import_file(learner, tenant, file, run.output), create=True)
    run.output.result(report.to_dict(), *ingest_report(report))
    return ExitCode.OK


@with_common_options
def bootstrap(
    run: Invocation,
    tenant: Tenant,
    file: SourceFile,
    mode: Annotated[FirstMode, typer.Option(help="Train from the start, or go on from the live model.")] = (
        FirstMode.full
    ),
) -> int:
    """Make the first model of a tenant from labelled texts; called again, add to them and train.

    Exits like learn.
    """
    from karen_learner.cli.render_cycle import cycle_result

    report, result = run.run(
        lambda learner: first_model(learner, tenant, file, mode, run.output), tenant=tenant, create=True
    )
    document = result.to_dict() | {"ingested": report.to_dict()}
    run.output.result(document, *ingest_report(report), *cycle_result(result, home=run.home))
    return exit_for(result.status)


async def import_file(learner: AutonomousLearner, tenant: str, file: Path, output: Output) -> IngestReport:
    """Import a file under a progress bar. Raises InvalidInput if no line of it could be used."""
    from karen_learner.cli.progress import line_progress

    with line_progress(output, file) as on_lines:
        report = await learner.ingest(tenant, file, on_lines=on_lines)
    if report.turns + report.examples + report.duplicates == 0:
        first = f": line {report.skipped[0].line}: {report.skipped[0].reason}" if report.skipped else ""
        raise InvalidInput(f"no line of {file} could be used{first}")
    return report


async def first_model(
    learner: AutonomousLearner, tenant: str, file: Path, mode: FirstMode, output: Output
) -> tuple[IngestReport, LearningCycleResult]:
    """What `AutonomousLearner.bootstrap` does, with the report of the lines that were left out."""
    from karen_learner.cli.progress import learning_progress

    report = await import_file(learner, tenant, file, output)
    with learning_progress(output) as progress:
        learner.events.subscribe(progress)
        result = await learner.trigger_learning_cycle(
            tenant, force_training=True, mode=mode.value, reason="bootstrap"
        )
        await learner.events.drain()
    return report, result


def register(app: typer.Typer) -> None:
    app.command()(ingest)
    app.command()(bootstrap)
