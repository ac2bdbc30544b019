"""Arguments and options: of several commands, and of all commands."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from karen_learner.cli.context import HOME_VARIABLE, Context

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


PANEL = "Common options, before or after the command"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL, show_default=False, **more)


HOME_HELP = f"Folder of all data. Default: the variable {HOME_VARIABLE}, or the current folder."
COMMON: dict[str, tuple[Any, Any]] = {
    "home": (
        Annotated[Path | None, _option("--home", help=HOME_HELP, metavar="PATH", file_okay=False)],
        None,
    ),
    "config": (
        Annotated[
            Path | None,
            _option(
                "--config",
                help="Settings file. Default: karen.cfg in the home, if it exists.",
                metavar="FILE",
                exists=True,
                dir_okay=False,
            ),
        ],
        None,
    ),
    "set": (
        Annotated[
            list[str] | None,
            _option("--set", help="Change one setting. Repeatable.", metavar="SECTION.KEY=VALUE"),
        ],
        None,
    ),
    "json": (Annotated[bool, _option("--json", help="Print one JSON document.")], False),
    "verbose": (Annotated[bool, _option("--verbose", help="Print progress to standard error.")], False),
    "debug": (Annotated[bool, _option("--debug", help="Print all messages and stack traces.")], False),
}
"""Type, declaration and default of each option."""


def with_common_options(command: Callable[..., int]) -> Callable[..., int]:
    """The command with the common options. Its first parameter is the `Context`; it returns its exit code."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in COMMON.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *(param.replace(kind=inspect.Parameter.KEYWORD_ONLY) for param in own), *common]

    @functools.wraps(command)
    def run(*, context: typer.Context, **values: Any) -> int:
        ours: Context = context.obj
        ours.typer_context = context
        ours.update({name: values.pop(name) for name in COMMON})
        return command(ours, **values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {param.name: param.annotation for param in parameters}
    del run.__wrapped__
    return run
