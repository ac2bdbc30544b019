"""Arguments that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Whose model and data.", show_default=False)]
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


class Mode(str, Enum):
    """How a cycle trains."""

    auto = "auto"
    incremental = "incremental"
    full = "full"


class FirstMode(str, Enum):
    """How a bootstrap trains."""

    full = "full"
    incremental = "incremental"


class Kind(str, Enum):
    """What an export writes."""

    examples = "examples"
    turns = "turns"
