"""Output of a command: results to standard output, messages to standard error.

Control characters are escaped: text of users cannot control the terminal.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

AddItem = Callable[[Any, RenderableType], None]

UNBOUNDED_WIDTH = 200
"""Columns of a table in a file or a pipe, unless the variable COLUMNS names them."""
MIN_WIDTH, MAX_WIDTH = 20, 1000
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, lone surrogates, and characters that break or reorder lines."""
PACKAGE = "karen_learner"
WARNINGS = "py.warnings"
STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}


class Output:
    """The two streams of one command. With `json`, standard output holds one JSON document."""

    def __init__(self) -> None:
        self.json = False
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)
        self._documented = False

    def result(self, document: Any, *shown: RenderableType) -> None:
        """Print the result: the document with `--json`, else tables and escaped texts."""
        if self.json:
            self._write_document(document)
        else:
            self.show(*shown)

    def show(self, *shown: RenderableType) -> None:
        """Print a part of the result at once. `--json` prints one document at the end."""
        if not self.json:
            for part in shown:
                self._out.print(text(part) if isinstance(part, str) else part)

    @contextmanager
    def stream(self) -> Iterator[AddItem]:
        """Print a result item by item: one array with `--json`, else one item after the other.

        The array starts with its first item and is closed even if the block fails.
        """

        def add(document: Any, shown: RenderableType) -> None:
            if self.json:
                self._out.file.write((",\n" if self._documented else "[\n") + _as_json(document))
                self._documented = True
            else:
                self.show(shown)

        try:
            yield add
        finally:
            if self._documented:
                self._out.file.write("\n]\n")
                self._out.file.flush()
        if self.json and not self._documented:
            self._write_document([])

    @property
    def console(self) -> Console:
        """The console of standard output, for live views."""
        return self._out

    @property
    def is_live(self) -> bool:
        """Whether a live view can be shown: on a terminal, without `--json`."""
        return self._out.is_terminal and not self.json

    def note(self, message: str, *, style: str = "") -> None:
        """Print a message to standard error."""
        self._err.print(text(message, style), soft_wrap=True)

    def error(self, message: str, *, kind: str) -> None:
        """Print an error message; with `--json` also as the document."""
        self.note(f"karen-learner: error: {message}", style="bold red")
        if self.json and not self._documented:
            self._write_document({"error": message, "type": kind})

    def trace(self, lines: str) -> None:
        """Print a stack trace."""
        for line in lines.expandtabs().splitlines():
            self.note(line)

    def ask(self, question: str) -> bool:
        """The answer (yes or no) from standard input. Raises EOFError at its end."""
        self._err.print(text(f"{question} [y/N] "), end="", soft_wrap=True)
        return input().strip().lower() in {"y", "yes"}

    def progress(self) -> Progress:
        """Progress bars on standard error. Disabled with `--json` and outside a terminal.

        Each task needs the field `details`.
        """
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            TimeElapsedColumn(),
            console=self._err,
            transient=True,
            disable=self.json or not self._err.is_terminal,
        )

    def _write_document(self, document: Any) -> None:
        self._documented = True
        self._out.file.write(_as_json(document, indent=2) + "\n")
        self._out.file.flush()


def _as_json(value: Any, *, indent: int | None = None) -> str:
    """ASCII only: no control character of a user's text reaches the terminal."""
    return json.dumps(value, indent=indent, ensure_ascii=True, allow_nan=False)


def _console(stream: IO[str] | None) -> Console:
    """A console for a standard stream; None if the caller has closed it (`>&-`): nothing is printed."""
    file = io.StringIO() if stream is None else stream
    wanted = os.environ.get("COLUMNS", "")
    known = wanted.isascii() and wanted.isdecimal() and len(wanted) <= len(str(MAX_WIDTH))
    columns = int(wanted) if known and MIN_WIDTH <= int(wanted) <= MAX_WIDTH else UNBOUNDED_WIDTH
    width = None if file.isatty() else columns
    return Console(file=file, highlight=False, markup=False, emoji=False, width=width)


def escape_unencodable(stream: IO[str]) -> None:
    """Print characters that the encoding of the stream lacks as escapes, as Python does on standard error."""
    if isinstance(stream, io.TextIOWrapper):  # tests replace it by other streams
        stream.reconfigure(errors="backslashreplace")


def escape(foreign: str) -> str:
    """The text on one line, with control characters shown as escapes: ESC becomes `\\x1b`."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), foreign)


def text(value: object, style: str = "") -> Text:
    """A value as escaped text without markup."""
    return Text(escape(str(value)), style=style)


class LogHandler(logging.Handler):
    """Prints a record as one line. With `--debug` it prints all lines and the trace."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            debug = logging.getLogger(PACKAGE).level == logging.DEBUG
            lines = record.getMessage().splitlines() or [""]
            message = " | ".join(lines) if debug else lines[0]
            if record.exc_info and (cause := record.exc_info[1]):
                message += f": {type(cause).__name__}: {cause}"
            self._output.note(
                f"[{record.levelname.lower()}] {message}", style=STYLES.get(record.levelno, "dim")
            )
            if debug and record.exc_info:
                self._output.trace(logging.Formatter().formatException(record.exc_info))
        except Exception:  # a log line must not end the command
            self.handleError(record)


@contextmanager
def logging_to(output: Output) -> Iterator[None]:
    """Print log records and Python warnings to `output` while the block runs."""
    handler = LogHandler(output)
    root, package, warnings = logging.getLogger(), logging.getLogger(PACKAGE), logging.getLogger(WARNINGS)
    before = package.level, warnings.level
    root.addHandler(handler)
    logging.captureWarnings(True)
    set_verbosity(verbose=False, debug=False)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        package.setLevel(before[0])
        warnings.setLevel(before[1])


def set_verbosity(*, verbose: bool, debug: bool) -> None:
    """Set the log level of this package. Other libraries log from WARNING."""
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.getLogger(PACKAGE).setLevel(level)
    logging.getLogger(WARNINGS).setLevel(logging.WARNING if verbose or debug else logging.ERROR)
