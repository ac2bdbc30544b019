"""`compare`: two versions on the same texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import FileOptions, Tenant, argument, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def compare(
    run: Context,
    tenant: Tenant,
    before: Annotated[str, argument("A", "First version.")],
    after: Annotated[str, argument("B", "Second version.")],
    file: Annotated[
        Path | None,
        argument(
            "FILE",
            "Labelled texts. Default: the judged texts that both versions recorded.",
            exists=True,
            readable=True,
        ),
    ] = None,
    *,
    reading: FileOptions,
) -> int:
    """Compare two versions: differences by task, and texts with other answers.

    Stores nothing.
    """
    from karen_learner.cli.progress import text_progress
    from karen_learner.cli.render_evaluation import comparison, warnings

    source = None if file is None else reading.corpus_file(file)
    async with run.learner(tenant) as learner:
        with text_progress(run.output) as on_texts:
            found = await learner.compare(tenant, before, after, source, on_texts=on_texts)
    for warning in warnings(found.unknown_labels, found.skipped, found.skipped_count, found.notes):
        run.output.note(warning, style="yellow")
    run.output.result(found.to_dict(), *comparison(found))
    return ExitCode.OK
