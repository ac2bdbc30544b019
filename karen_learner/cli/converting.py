"""`convert`: a corpus as spaCy's own commands want it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.render import text


@with_common_options
def convert(
    run: Invocation,
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="A corpus: .jsonl.", exists=True, dir_okay=False)
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The DocBin to write.", dir_okay=False)],
    lang: Annotated[str, typer.Option(help="The language, as spaCy's code.")] = "en",
    dev: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Put every tenth text there instead.", show_default=False),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the labels of each pipe there.", show_default=False),
    ] = None,
) -> int:
    """Write a corpus as DocBin, for spacy train and spacy evaluate."""
    from karen_learner.corpora.convert import convert_corpus

    conversion = convert_corpus(source, target, language=lang, dev=dev, labels=labels)
    for reason in conversion.skipped:
        run.output.note(f"skipped: {reason}")
    sentence = f"wrote {conversion.documents} documents, {len(conversion.skipped)} lines were skipped"
    run.output.result(conversion.to_dict(), text(sentence))
    return ExitCode.OK


def register(app: typer.Typer) -> None:
    app.command()(convert)
