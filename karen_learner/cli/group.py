"""The group of all commands: the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.logs import logging_to
from karen_learner.cli.output import Output
from karen_learner.errors import KarenLearnerError, SettingsError

PROGRAM = "karen-learner"
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""Typer brings its own copy of click, or uses click, as its version has it."""


class CommandGroup(TyperGroup):
    """Runs a command, whose result is its exit code."""

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *_more: Any, **extra: Any
    ) -> NoReturn:
        """Run and exit the process with the command's code."""
        extra |= {"prog_name": prog_name or PROGRAM, "standalone_mode": False}
        output = Output()
        with logging_to(output) as logs:
            invocation = Invocation(output=output, logs=logs)
            code = self._guarded(invocation, args, **extra)
        sys.exit(code)

    def _guarded(self, invocation: Invocation, args: Sequence[str] | None, **extra: Any) -> int:
        try:
            code = super().main(args, obj=invocation, **extra)
        except BaseException as error:
            return _failed(invocation, error)
        if code == ExitCode.INTERRUPTED:
            invocation.output.error(INTERRUPTED, kind="KeyboardInterrupt")
        return int(code or ExitCode.OK)


INTERRUPTED = "interrupted; what was not finished is put right at the next start"


def _failed(invocation: Invocation, error: BaseException) -> int:
    message, code = explained(error)
    if isinstance(error, BrokenPipeError):
        return _reader_gone()
    invocation.output.error(message, kind=type(error).__name__)
    if invocation.debug:
        invocation.output.trace("".join(traceback.format_exception(error)))
    return code


def explained(error: BaseException) -> tuple[str, int]:
    """The sentence and the exit code for what went wrong."""
    if isinstance(error, USAGE_ERROR):
        return _usage(error), ExitCode.USAGE
    if isinstance(error, SettingsError):
        return str(error), ExitCode.USAGE
    if isinstance(error, KarenLearnerError):
        return _ours(error), ExitCode.ERROR
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return INTERRUPTED, ExitCode.INTERRUPTED
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}", ExitCode.ERROR
    name = type(error).__name__
    return f"unexpected {name}: {error} (use --debug to see where)", ExitCode.ERROR


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    message: str = getattr(error, "format_message", error.__str__)()
    return f"{message.strip().rstrip('.')} (see `{path} --help`)"


def _ours(error: KarenLearnerError) -> str:
    if error.backup_path is None:
        return str(error)
    return f"{error} (backup of the live model: {error.backup_path})"


def _reader_gone() -> int:
    """Whoever read our output (`| head`) has seen enough: end without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.ERROR
