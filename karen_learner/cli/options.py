"""Arguments and options: of several commands, and of all commands."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from karen_learner.cli.context import Context

if TYPE_CHECKING:
    from karen_learner.corpora.corpus_file import CorpusFile

T = TypeVar("T")

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Id of the tenant.", show_default=False)]
SourceFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Labelled texts or turns, such as a .jsonl, .csv or .spacy file.",
        exists=True,
        readable=True,
        show_default=False,
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace the labels of stored gold that the file contradicts.")
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="Format of the file, if its suffix does not tell.",
        show_default=False,
    ),
]
TargetFormat = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Format to write, if the suffix does not tell.", show_default=False),
]
KeyNames = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="KEY=NAME", help="Read a key or column as another one. Repeatable."),
]
Encoding = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Encoding of the file, such as cp1252.", show_default=False),
]
Offsets = Annotated[
    Literal["characters", "utf-16", "bytes"],
    typer.Option(metavar="UNIT", help="Unit of the offsets of entities: characters, utf-16 or bytes."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the number of examples. Change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Limit = Annotated[int, typer.Option(help="Maximum number of entries.", min=1, metavar="N")]


def corpus_file(
    path: Path,
    format: str | None,
    names: list[str] | None,
    encoding: str | None,
    offsets: Literal["characters", "utf-16", "bytes"] = "characters",
) -> CorpusFile:
    """The file with the options of its reader. Raises typer.BadParameter, InvalidInput."""
    from karen_learner.corpora.corpus_file import CorpusFile

    keys = {}
    for assignment in names or ():
        foreign, equals, ours = assignment.partition("=")
        if not (foreign and equals and ours):
            raise typer.BadParameter(f"write --map KEY=NAME, such as label=intent, not {assignment!r}")
        keys[foreign] = ours
    return CorpusFile(path, format=format, keys=keys, encoding=encoding, offsets=offsets)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Parameters after the first one, all by keyword."""
    _, *others = inspect.signature(function, eval_str=True).parameters.values()
    return [param.replace(kind=inspect.Parameter.KEYWORD_ONLY) for param in others]


COMMON = {param.name: param for param in _parameters(Context.update)}
"""Options of all commands."""


def with_common_options(command: Callable[..., int | Coroutine[Any, Any, int]]) -> Callable[..., int]:
    """The command with the common options. Its first parameter is the `Context`; it returns its exit code."""
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *_parameters(command), *COMMON.values()]

    @functools.wraps(command)
    def run(*, context: typer.Context, **values: Any) -> int:
        ours: Context = context.obj
        ours.typer_context = context
        ours.update(**{name: values.pop(name) for name in COMMON})
        result = command(ours, **values)
        return result if isinstance(result, int) else run_coroutine(result)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {param.name: param.annotation for param in parameters}
    del run.__wrapped__
    return run


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result. Without the debug mode of asyncio, which prints slow callbacks."""
    return asyncio.run(coroutine, debug=False)
