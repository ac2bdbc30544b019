"""The options that every command takes, before or after its name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from karen_learner.cli.invocation import HOME_VARIABLE, Invocation

PANEL = "Common options, also before the command's name"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL, show_default=False, **more)


HOME_HELP = f"The folder that holds everything. Default: the variable {HOME_VARIABLE}, or this folder."
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
                help="The settings file. Default: karen.cfg in the home, if it is there.",
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
            _option(
                "--set", help="Change one setting; may be given several times.", metavar="SECTION.KEY=VALUE"
            ),
        ],
        None,
    ),
    "json": (Annotated[bool, _option("--json", help="One JSON document on standard output.")], False),
    "verbose": (Annotated[bool, _option("--verbose", help="Tell on standard error what is done.")], False),
    "debug": (Annotated[bool, _option("--debug", help="Tell everything, and errors with a trace.")], False),
}
"""Each option's type, with its declaration, and its default."""


def with_common_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the common options; its first parameter is then the `Invocation`.

    The command returns its exit code. Use it below `@app.command()`.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in COMMON.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *(param.replace(kind=inspect.Parameter.KEYWORD_ONLY) for param in own), *common]

    @functools.wraps(command)
    def invoked(*, context: typer.Context, **values: Any) -> int:
        invocation: Invocation = context.obj
        invocation.context = context
        invocation.take({name: values.pop(name) for name in COMMON})
        return command(invocation, **values)

    invoked.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    invoked.__annotations__ = {param.name: param.annotation for param in parameters}
    del invoked.__wrapped__
    return invoked
