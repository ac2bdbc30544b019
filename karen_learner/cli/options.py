"""Arguments and options: of several commands, and of all commands."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from karen_learner.cli.context import Context

if TYPE_CHECKING:
    from karen_learner.corpora.corpus_file import CorpusFile

T = TypeVar("T")


def argument(metavar: str, help: str, *, show_default: bool = False, **more: Any) -> Any:
    """A positional argument."""
    return typer.Argument(metavar=metavar, help=help, show_default=show_default, **more)


def option(metavar: str, help: str, *names: str, show_default: bool = False, **more: Any) -> Any:
    """An option with a value. Without `names`, its name is that of the parameter."""
    return typer.Option(*names, metavar=metavar, help=help, show_default=show_default, **more)


def flag(name: str, help: str) -> Any:
    """An option without a value."""
    return typer.Option(name, help=help)


Tenant = Annotated[str, argument("TENANT", "Id of the tenant.")]
SourceFile = Annotated[
    Path,
    argument(
        "FILE", "Labelled texts or turns, such as a .jsonl, .csv or .spacy file.", exists=True, readable=True
    ),
]
Replace = Annotated[bool, flag("--replace", "Replace the labels of stored gold that the file contradicts.")]
TargetFormat = Annotated[str | None, option("NAME", "Format to write, if the suffix does not tell.")]
DryRun = Annotated[bool, flag("--dry-run", "Show the number of examples. Change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Limit = Annotated[int, option("N", "Maximum number of entries.", min=1, show_default=True)]


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Options of the commands that read a file of labelled texts or turns."""

    format: Annotated[
        str | None, option("NAME", "Format of the file, if its suffix does not tell.", "--format")
    ] = None
    map: Annotated[
        list[str] | None, option("KEY=NAME", "Read a key or column as another one. Repeatable.", "--map")
    ] = None
    encoding: Annotated[str | None, option("NAME", "Encoding of the file, such as cp1252.")] = None
    offsets: Annotated[
        Literal["characters", "utf-16", "bytes"],
        option("UNIT", "Unit of the offsets of entities: characters, utf-16 or bytes.", show_default=True),
    ] = "characters"

    def corpus_file(self, path: Path) -> CorpusFile:
        """The file with these options. Raises typer.BadParameter, InvalidInput."""
        from karen_learner.corpora.corpus_file import CorpusFile

        keys = {}
        for assignment in self.map or ():
            foreign, equals, ours = assignment.partition("=")
            if not (foreign and equals and ours):
                raise typer.BadParameter(f"write --map KEY=NAME, such as label=intent, not {assignment!r}")
            keys[foreign] = ours
        return CorpusFile(path, format=self.format, keys=keys, encoding=self.encoding, offsets=self.offsets)


def _parameters(function: Callable[..., Any], *, skip: int = 1) -> list[inspect.Parameter]:
    """Parameters after the first ones, all by keyword."""
    found = list(inspect.signature(function, eval_str=True).parameters.values())[skip:]
    return [param.replace(kind=inspect.Parameter.KEYWORD_ONLY) for param in found]


COMMON = {param.name: param for param in _parameters(Context.update)}
"""Options of all commands."""


def with_common_options(command: Callable[..., int | Coroutine[Any, Any, int]]) -> Callable[..., int]:
    """The command with the common options. Its first parameter is the `Context`; it returns its exit code.

    A parameter with a dataclass as its type stands for the options in the fields of the dataclass.
    """
    own = {param.name: [param] for param in _parameters(command)}
    groups: dict[str, Any] = {
        name: one.annotation for name, (one,) in own.items() if is_dataclass(one.annotation)
    }
    own |= {name: _parameters(group, skip=0) for name, group in groups.items()}
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *itertools.chain(*own.values()), *COMMON.values()]

    @functools.wraps(command)
    def run(*, context: typer.Context, **values: Any) -> int:
        ours: Context = context.obj
        ours.typer_context = context
        ours.update(**{name: values.pop(name) for name in COMMON})
        for name, group in groups.items():
            values[name] = group(**{param.name: values.pop(param.name) for param in own[name]})
        result = command(ours, **values)
        return result if isinstance(result, int) else run_coroutine(result)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {param.name: param.annotation for param in parameters}
    del run.__wrapped__
    return run


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result. Without the debug mode of asyncio, which prints slow callbacks."""
    return asyncio.run(coroutine, debug=False)
