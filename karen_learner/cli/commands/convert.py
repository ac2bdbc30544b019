"""`convert`: labelled texts in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import (
    FileOptions,
    SourceFile,
    TargetFormat,
    argument,
    option,
    with_common_options,
)
from karen_learner.errors import ExitCode


@with_common_options
def convert(
    run: Context,
    source: SourceFile,
    target: Annotated[Path, argument("TARGET", "Target, such as a .spacy file.", dir_okay=False)],
    lang: Annotated[str, typer.Option(help="Language code of spaCy.")] = "en",
    dev: Annotated[Path | None, option("FILE", "Write every tenth text to this file.")] = None,
    labels: Annotated[
        Path | None, option("DIR", "Write the labels of text categorizers to this folder.")
    ] = None,
    *,
    reading: FileOptions,
    to: TargetFormat = None,
) -> int:
    """Convert labelled texts to another format, such as DocBin for spacy train."""
    from karen_learner.corpora.conversion import convert_corpus

    file = reading.corpus_file(source)
    conversion = convert_corpus(file, target, to=to, language=lang, dev=dev, labels=labels)
    for reason in conversion.skipped:
        run.output.note(f"skipped: {reason}")
    for note in conversion.notes:
        run.output.note(note)
    sentence = f"wrote {conversion.documents} documents, skipped {len(conversion.skipped)} lines"
    run.output.result(conversion.to_dict(), sentence)
    return ExitCode.OK
