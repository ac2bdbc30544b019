"""The Typer app, its error handling, and the entry point `karen-learner`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from karen_learner.cli.context import Context
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output, escape_unencodable, logging_to
from karen_learner.disk import free_text, is_about_space
from karen_learner.errors import ExitCode, KarenLearnerError

PROGRAM = "karen-learner"
COMMANDS = {
    "Learn": ("init", "base", "bootstrap", "ingest", "learn", "analyze"),
    "Inspect": (
        "status",
        "history",
        "show",
        "versions",
        "evaluate",
        "compare",
        "strategies",
        "performance",
        "evidence",
        "recommendations",
        "report",
        "improvements",
    ),
    "Undo and correct": ("rollback", "release", "discard", "quarantine", "labels", "note", "erase"),
    "Autonomy": ("run", "why", "monitor", "retrain", "schedule", "incidents", "alerts", "troubleshoot"),
    "Operate a home": ("doctor", "repair", "prune", "backup", "restore", "notify"),
    "Serve": ("serve", "keys"),
    "Files": ("validate", "convert", "export", "package"),
    "Simulate": ("simulate", "demo"),
}
"""In the panels and the order of the help page. Each is a module of `cli.commands` with such a function."""
EXIT_CODE_MEANINGS = {
    ExitCode.OK: "success or deployed",
    ExitCode.ERROR: "error, with a message on standard error",
    ExitCode.USAGE: "invalid command line or setting",
    ExitCode.REJECTED: "candidate rejected",
    ExitCode.SKIPPED: "nothing to do, or declined",
    ExitCode.FAILED: "cycle failed",
    ExitCode.TOO_CLOSE: "candidate too close to call",
    ExitCode.UNHEALTHY: "unhealthy: a live model does not answer, or nothing can be stored",
    ExitCode.INTERRUPTED: "interrupted",
}
INTERRUPTED = "interrupted: the next start completes or undoes unfinished work"
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""The usage error of click. Some versions of typer contain their own copy of click."""


class CommandGroup(TyperGroup):
    """The group of all commands. Turns the result or error of a command into an exit code."""

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *_more: Any, **extra: Any
    ) -> NoReturn:
        """Run a command and exit the process with its code."""
        extra |= {"prog_name": prog_name or PROGRAM, "standalone_mode": False}
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                escape_unencodable(stream)
        output = Output()
        words = sys.argv[1:] if args is None else args
        output.json = "--json" in takewhile("--".__ne__, words)  # for the errors of the parser as well
        with logging_to(output):
            code = self._exit_code(Context(output=output), args, **extra)
        sys.exit(code)

    def _exit_code(self, context: Context, args: Sequence[str] | None, **extra: Any) -> int:
        try:
            code = super().main(args, obj=context, **extra)
        except BaseException as error:
            return _report(context, error)
        if code == ExitCode.INTERRUPTED:
            context.output.error(INTERRUPTED, kind="KeyboardInterrupt")
        return int(code or ExitCode.OK)


app = typer.Typer(
    name=PROGRAM,
    cls=CommandGroup,
    help="Train spaCy models from conversations: collect turns, learn, deploy, roll back.",
    epilog="Exit codes: " + "; ".join(f"{code:d} {text}" for code, text in EXIT_CODE_MEANINGS.items()) + ".",
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
    run: Context,
    version: Annotated[  # noqa: ARG001 - its callback prints the version
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> int:
    if run.typer_context is None or run.typer_context.invoked_subcommand is not None:
        return ExitCode.OK
    typer.echo(run.typer_context.get_help(), nl=False)
    return ExitCode.USAGE


for panel, names in COMMANDS.items():
    for name in names:
        function = getattr(import_module(f"karen_learner.cli.commands.{name}"), name)
        app.command(name, rich_help_panel=panel)(function)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit the process with its code (see `errors.ExitCode`)."""
    typer.main.get_command(app).main(args=arguments)


def _report(context: Context, error: BaseException) -> int:
    """Print the error; return its exit code."""
    message, code = explained(error, context.home)
    if isinstance(error, BrokenPipeError):  # the reader of a pipe (`| head`) has closed it: no message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR
    context.output.error(message, kind=type(error).__name__)
    if context.debug:
        context.output.trace("".join(traceback.format_exception(error)))
    return code


def explained(error: BaseException, home: Path = Path()) -> tuple[str, int]:
    """Message and exit code of an error of a command on a home."""
    if isinstance(error, USAGE_ERROR):
        return _usage(error), ExitCode.USAGE
    if isinstance(error, KarenLearnerError):
        return _with_backup(error, home), error.exit_code
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return INTERRUPTED, ExitCode.INTERRUPTED
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        free = f" ({free_text(home)})" if is_about_space(error) else ""
        return f"{where}{error.strerror}{free}", ExitCode.ERROR
    name = type(error).__name__
    return f"unexpected {name}: {error} (--debug prints the trace)", ExitCode.ERROR


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    message: str = getattr(error, "format_message", error.__str__)()
    return f"{message.strip().rstrip('.')} (see `{path} --help`)"


def _with_backup(error: KarenLearnerError, home: Path) -> str:
    """The message, with the backup of the live model relative to the home."""
    if error.backup_path is None:
        return str(error)
    there = home.absolute()
    backup = error.backup_path
    shown = backup.relative_to(there) if backup.is_relative_to(there) else backup
    return f"{error} (backup of the live model: {shown})"
