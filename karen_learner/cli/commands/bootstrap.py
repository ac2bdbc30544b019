"""`bootstrap`: the first model of a tenant."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from karen_learner.cli.commands.ingest import import_file
from karen_learner.cli.commands.learn import exit_code, texts_of
from karen_learner.cli.context import Context
from karen_learner.cli.options import FileOptions, Replace, SourceFile, Tenant, with_common_options


@with_common_options
async def bootstrap(
    run: Context,
    tenant: Tenant,
    file: SourceFile,
    mode: Annotated[
        Literal["full", "incremental"], typer.Option(help="Train from scratch, or continue the live model.")
    ] = "full",
    *,
    reading: FileOptions,
    replace: Replace = False,
) -> int:
    """Train the first model of a tenant from labelled texts. Later calls add texts and train again.

    Exit codes are those of learn.
    """
    from karen_learner.cli.progress import learning_progress
    from karen_learner.cli.render import cycle_result, ingest_report

    source = reading.corpus_file(file)
    async with run.learner(tenant, create=True) as learner:
        report = await import_file(learner, tenant, source, run.output, replace=replace)
        async with learning_progress(run.output, learner):
            result = await learner.trigger_learning_cycle(
                tenant, force_training=True, mode=mode, reason="bootstrap"
            )
            texts = await texts_of(learner, result)
    document = result.to_dict() | {"example_texts": texts, "ingested": report.to_dict()}
    run.output.result(document, *ingest_report(report), *cycle_result(result, home=run.home, texts=texts))
    return exit_code(result)
