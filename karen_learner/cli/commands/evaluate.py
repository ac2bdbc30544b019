"""`evaluate`: scores of a version on a labelled file."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import FileOptions, SourceFile, Tenant, option, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def evaluate(
    run: Context,
    tenant: Tenant,
    file: SourceFile,
    version: Annotated[str | None, option("VERSION", "Version to evaluate. Default: the live one.")] = None,
    *,
    reading: FileOptions,
) -> int:
    """Score a version on labelled texts: by task and label, with confusions and calibration.

    Stores nothing. Texts with a label that the version lacks count as wrong.
    """
    from karen_learner.cli.progress import text_progress
    from karen_learner.cli.render_evaluation import evaluation, warnings

    source = reading.corpus_file(file)
    async with run.learner(tenant) as learner:
        with text_progress(run.output) as on_texts:
            found = await learner.evaluate(tenant, source, version=version, on_texts=on_texts)
    unknown = {found.version: found.unknown_labels}
    for warning in warnings(unknown, found.skipped, found.skipped_count, found.notes):
        run.output.note(warning, style="yellow")
    run.output.result(found.to_dict(), *evaluation(found))
    return ExitCode.OK
