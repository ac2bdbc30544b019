"""`ingest`: turns, labelled texts and log entries from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from karen_learner.cli.context import Context
from karen_learner.cli.options import FileOptions, Replace, SourceFile, Tenant, with_common_options
from karen_learner.cli.output import Output
from karen_learner.errors import ExitCode, InvalidInput

if TYPE_CHECKING:
    from karen_learner.corpora.corpus_file import CorpusFile
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import IngestReport


@with_common_options
async def ingest(
    run: Context,
    tenant: Tenant,
    file: SourceFile,
    *,
    reading: FileOptions,
    replace: Replace = False,
) -> int:
    """Import turns, labelled texts, or entries of a production log from a file.

    Labelled texts stay pending until the next cycle. Unusable lines are reported and skipped.
    """
    from karen_learner.cli.render import ingest_report
    from karen_learner.improvement.production_log import is_decision_log

    if is_decision_log(file):
        return await _ingest_log(run, tenant, file)
    source = reading.corpus_file(file)
    async with run.learner(create=True) as learner:
        report = await import_file(learner, tenant, source, run.output, replace=replace)
    run.output.result(report.to_dict(), *ingest_report(report))
    return ExitCode.OK


async def _ingest_log(run: Context, tenant: str, file: Path) -> int:
    from karen_learner.cli.progress import line_progress
    from karen_learner.cli.render_improvement import log_report

    async with run.learner(create=True) as learner:
        with line_progress(run.output, file) as on_lines:
            report = await learner.ingest_decisions(tenant, file, on_lines=on_lines)
    run.output.result(report.to_dict(), *log_report(report))
    return ExitCode.OK


async def import_file(
    learner: AutonomousLearner, tenant: str, file: CorpusFile, output: Output, *, replace: bool
) -> IngestReport:
    """Import a file with a progress bar. Raises InvalidInput if no line is usable."""
    from karen_learner.cli.progress import line_progress

    with line_progress(output, file.path) as on_lines:
        report = await learner.ingest(tenant, file, replace=replace, on_lines=on_lines)
    if report.turns + report.examples + report.duplicates == 0:
        first = "".join(f" ({note})" for note in report.notes)
        first = f": line {report.skipped[0].line}: {report.skipped[0].reason}" if report.skipped else first
        advice = "; --replace replaces stored gold" if report.contradictions else ""
        raise InvalidInput(f"no line of {file.path} is usable{first}{advice}")
    return report
