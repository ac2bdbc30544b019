"""Arguments and options of several commands."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Id of the tenant.", show_default=False)]
SourceFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A .jsonl, .csv or .spacy file.",
        exists=True,
        dir_okay=False,
        readable=True,
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option(help="Maximum number of entries.", min=1, metavar="N")]


class Mode(str, Enum):
    """Training modes of a cycle."""

    auto = "auto"
    incremental = "incremental"
    full = "full"


class FirstMode(str, Enum):
    """Training modes of a bootstrap."""

    full = "full"
    incremental = "incremental"


class Kind(str, Enum):
    """Contents of an export."""

    examples = "examples"
    turns = "turns"
