"""`convert`: labelled texts in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import (
    Encoding,
    FormatName,
    KeyNames,
    Offsets,
    SourceFile,
    TargetFormat,
    corpus_file,
    with_common_options,
)
from karen_learner.errors import ExitCode


@with_common_options
def convert(
    run: Context,
    source: SourceFile,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="Target, such as a .spacy file.", dir_okay=False)
    ],
    lang: Annotated[str, typer.Option(help="Language code of spaCy.")] = "en",
    dev: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every tenth text to this file.", show_default=False),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the labels of text categorizers to this folder.", show_default=False
        ),
    ] = None,
    format: FormatName = None,
    map: KeyNames = None,
    encoding: Encoding = None,
    offsets: Offsets = "characters",
    to: TargetFormat = None,
) -> int:
    """Convert labelled texts to another format, such as DocBin for spacy train."""
    from karen_learner.corpora.conversion import convert_corpus

    file = corpus_file(source, format, map, encoding, offsets)
    conversion = convert_corpus(file, target, to=to, language=lang, dev=dev, labels=labels)
    for reason in conversion.skipped:
        run.output.note(f"skipped: {reason}")
    for note in conversion.notes:
        run.output.note(note)
    sentence = f"wrote {conversion.documents} documents, skipped {len(conversion.skipped)} lines"
    run.output.result(conversion.to_dict(), sentence)
    return ExitCode.OK
