"""The arguments and options of `simulate`, each with its bounds and its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from karen_learner.cli.arguments import Mode

TrainFile = Annotated[
    Path,
    typer.Argument(help="Labelled texts (.jsonl), or a folder with train.jsonl and test.jsonl.", exists=True),
]
TestFile = Annotated[
    Path | None,
    typer.Argument(help="The texts to judge by; never learned from.", exists=True, dir_okay=False),
]
Shots = Annotated[int, typer.Option(help="Gold texts of each label for the bootstrap.", min=2)]
CorrectionRate = Annotated[
    float, typer.Option(help="Share of the wrong answers that users correct.", min=0, max=1)
]
RatingRate = Annotated[float, typer.Option(help="Share of the answers that users rate.", min=0, max=1)]
Noise = Annotated[float, typer.Option(help="Share of the feedback that is mistaken.", min=0, max=1)]
Users = Annotated[int, typer.Option(help="How many users speak, of unequal activity.", min=1)]
Cycles = Annotated[
    int | None,
    typer.Option(help="Learning cycles over the stream. Default: 10.", min=1, show_default=False),
]
Every = Annotated[
    int | None,
    typer.Option(help="A cycle every so many turns, instead of --cycles.", min=1, show_default=False),
]
Limit = Annotated[int | None, typer.Option(help="At most so many turns.", min=1, show_default=False)]
ModeOption = Annotated[Mode, typer.Option(help="How cycles train.")]
Seed = Annotated[int, typer.Option(help="Draws the shots, the order and what users do.")]
KeptHome = Annotated[
    Path | None,
    typer.Option(
        help="Keep everything in this new folder.", metavar="DIR", file_okay=False, show_default=False
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(help="Draw a picture (.png, .svg, .pdf).", metavar="FILE", show_default=False),
]
Save = Annotated[
    Path | None,
    typer.Option(
        help="Write what --json shows to a file as well.", metavar="FILE", dir_okay=False, show_default=False
    ),
]
Refitted = Annotated[bool, typer.Option(help="Compare with training from scratch at the end.")]
