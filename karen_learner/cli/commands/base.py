"""`base`: the base version, from which new tenants start, is built, shown and removed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import FileOptions, argument, flag, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.corpora.corpus_file import CorpusFile
    from karen_learner.learner import AutonomousLearner
    from karen_learner.models.base_versions import BaseVersion

Action = Literal["build", "show", "remove"]


@with_common_options
async def base(
    run: Context,
    action: Annotated[Action, argument("ACTION", "build, show or remove.")],
    files: Annotated[
        list[Path] | None,
        argument("[FILE]...", "build: files of shared labelled texts.", exists=True, readable=True),
    ] = None,
    *,
    reading: FileOptions,
    dry_run: Annotated[bool, flag("--dry-run", "build: read the files. Change nothing.")] = False,
) -> int:
    """Train a pipeline on shared labelled texts, from which tenants start instead of from nothing.

    It never reads texts of tenants. Exit code 4: there is no base.
    """
    if (action == "build") != bool(files):
        raise typer.BadParameter("build needs FILEs; show and remove have none")
    from karen_learner.models.base_versions import read_base, remove_base
    from karen_learner.models.files import HomeLayout

    settings = run.settings()
    layout = HomeLayout(run.home, settings.paths)
    if action == "build":
        sources = [reading.corpus_file(file) for file in files or ()]
        if dry_run:
            return _check(run, sources)
        return _show(run, await _build(run, sources), "built")
    found = read_base(layout)
    if action == "remove" and found is not None and not dry_run:
        remove_base(layout)
    return _show(run, found, "removed" if action == "remove" and not dry_run else "present")


async def _build(run: Context, sources: list[CorpusFile]) -> BaseVersion:
    from karen_learner.base_builder import build_base
    from karen_learner.cli.progress import learning_progress

    def showing(learner: AutonomousLearner) -> AbstractAsyncContextManager[None]:
        return learning_progress(run.output, learner)

    return await build_base(run.home, run.settings(), sources, showing=showing)


def _check(run: Context, sources: list[CorpusFile]) -> int:
    """Show the numbers of usable texts."""
    from karen_learner.curation.data_reports import read_labelled_file

    texts = {str(one.path): len(read_labelled_file(one).texts) for one in sources}
    run.output.result({"texts": texts}, *(f"{path}: {number} texts" for path, number in texts.items()))
    return ExitCode.OK


def _show(run: Context, found: BaseVersion | None, done: str) -> int:
    if found is None:
        run.output.result({"base": None}, "no base: new tenants start from nothing")
        return ExitCode.SKIPPED
    scores = ", ".join(f"{name} {value:.3f}" for name, value in found.scores.items())
    labels = ", ".join(f"{number} {task}" for task, number in found.labels.items())
    run.output.result(
        {"base": found.to_dict(), "done": done},
        f"{found.name}: {done}",
        f"{found.texts} texts of {', '.join(found.files)}; labels: {labels}",
        f"out-of-fold scores: {scores}",
    )
    return ExitCode.OK
