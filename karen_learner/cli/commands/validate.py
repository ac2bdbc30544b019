"""`validate`: problems of a file of labelled texts, before it is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import FileOptions, SourceFile, argument, flag, option, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.corpora.corpus_file import CorpusFile
    from karen_learner.records.data_reports import DataReport


@with_common_options
async def validate(
    run: Context,
    file: SourceFile,
    tenant: Annotated[
        str | None, argument("[TENANT]", "Also compare with the stored gold of this tenant.")
    ] = None,
    test: Annotated[
        Path | None, option("FILE", "Test texts, which must not be in FILE.", exists=True)
    ] = None,
    rare: Annotated[int, option("N", "A label with fewer texts is rare.", min=1, show_default=True)] = 5,
    strict: Annotated[bool, flag("--strict", "Exit with code 1 for warnings, too.")] = False,
    *,
    reading: FileOptions,
) -> int:
    """Check labelled texts before an import or an evaluation. Stores nothing.

    Exit code 1: the file has errors.
    """
    from karen_learner.cli.render_data import data_report

    source = reading.corpus_file(file)
    tested = None if test is None else reading.corpus_file(test)
    report = await _report(run, tenant, source, tested, rare)
    run.output.result(report.to_dict(), *data_report(report))
    return ExitCode.ERROR if report.errors or (strict and report.warnings) else ExitCode.OK


async def _report(
    run: Context, tenant: str | None, source: CorpusFile, test: CorpusFile | None, rare_below: int
) -> DataReport:
    """The report of the learner; without a tenant no home is needed."""
    if tenant is not None:
        async with run.learner(tenant) as learner:
            return await learner.check_data(tenant, source, test=test, rare_below=rare_below)
    from karen_learner.curation.alignment import TokenAligner
    from karen_learner.curation.data_reports import data_report, read_labelled_file

    aligner = TokenAligner(run.settings().training.language)
    tested = None if test is None else read_labelled_file(test, is_test=True)
    return data_report(read_labelled_file(source), tested, aligner=aligner, rare_below=rare_below)
