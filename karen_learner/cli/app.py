"""The Typer app with all its commands, and the entry point `karen-learner`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from karen_learner.cli import (
    analyzing,
    converting,
    demo,
    exporting,
    home,
    learning,
    looking,
    simulate,
    teaching,
    undoing,
)
from karen_learner.cli.exits import ExitCode, exit_codes_help
from karen_learner.cli.group import PROGRAM, CommandGroup
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options

FAMILIES = (home, teaching, learning, analyzing, looking, undoing, exporting, converting, simulate, demo)

app = typer.Typer(
    name=PROGRAM,
    cls=CommandGroup,
    help="spaCy language understanding that learns from its own conversations.",
    epilog=exit_codes_help(),
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed_version

        typer.echo(f"{PROGRAM} {installed_version(PROGRAM)}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
@with_common_options
def root(
    run: Invocation,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", help="Tell the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> int:
    if run.context is None or run.context.invoked_subcommand is not None:
        return ExitCode.OK
    typer.echo(run.context.get_help(), nl=False)
    return ExitCode.USAGE


for family in FAMILIES:
    family.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: run a command and exit the process with its code (see `exits.py`)."""
    typer.main.get_command(app).main(args=arguments)
