"""Output of a command: results to standard output, messages to standard error.

Control characters are escaped: text of users cannot control the terminal.
"""

from __future__ import annotations

import json
import logging
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn
from rich.text import Text

AddItem = Callable[[Any, RenderableType], None]

UNBOUNDED_WIDTH = 200
"""Columns of a table in a file or a pipe."""
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that reorder text."""
UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
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
        """Print the result: the document with `--json`, else the tables."""
        if self.json:
            self._write_document(document)
        else:
            for renderable in shown:
                self._out.print(renderable)

    @contextmanager
    def stream(self) -> Iterator[AddItem]:
        """Print a result item by item: one array with `--json`, else one item after the other.

        The array starts with its first item and is closed even if the block fails.
        """
        array = JsonArray(self._out.file)

        def add(document: Any, shown: RenderableType) -> None:
            if self.json:
                self._documented = True
                array.append(document)
            else:
                self._out.print(shown)

        try:
            yield add
        except BaseException:
            if self._documented:
                array.close()
            raise
        if self.json:
            array.close()

    def note(self, text: str, *, style: str = "") -> None:
        """Print a message to standard error."""
        self._err.print(Text(escape(text), style=style), soft_wrap=True)

    def error(self, message: str, *, kind: str) -> None:
        """Print an error message; with `--json` also as the document."""
        self.note(f"karen-learner: error: {message}", style="bold red")
        if self.json and not self._documented:
            self._write_document({"error": message, "type": kind})

    def trace(self, text: str) -> None:
        """Print a stack trace."""
        self._err.print(Text(escape_lines(text)), soft_wrap=True)

    def ask(self, question: str) -> bool:
        """The answer (yes or no) from standard input. Raises EOFError at its end."""
        self._err.print(Text(f"{escape(question)} [y/N] "), end="", soft_wrap=True)
        return input().strip().lower() in {"y", "yes"}

    def progress(self, *columns: ProgressColumn) -> Progress:
        """Progress bars on standard error. Disabled with `--json` and outside a terminal."""
        enabled = self._err.is_terminal and not self.json
        return Progress(*columns, console=self._err, transient=True, disable=not enabled)

    def _write_document(self, document: Any) -> None:
        self._documented = True
        self._out.file.write(_as_json(document, indent=2) + "\n")
        self._out.file.flush()


class JsonArray:
    """An open JSON array."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._separator = "["

    def append(self, item: Any) -> None:
        self._file.write(f"{self._separator}\n{_as_json(item)}")
        self._separator = ","

    def close(self) -> None:
        self._file.write("[]\n" if self._separator == "[" else "\n]\n")
        self._file.flush()


def _as_json(value: Any, *, indent: int | None = None) -> str:
    """ASCII only: no control character of a user's text reaches the terminal."""
    return json.dumps(value, indent=indent, ensure_ascii=True, allow_nan=False)


def _console(file: IO[str]) -> Console:
    is_terminal = file.isatty()
    return Console(
        file=file, highlight=False, markup=False, emoji=False, width=None if is_terminal else UNBOUNDED_WIDTH
    )


def escape(text: str) -> str:
    """`text` on one line, with control characters shown as escapes: ESC becomes `\\x1b`."""
    return "".join(_escaped(char) if _is_unsafe(char) else char for char in text)


def escape_lines(text: str) -> str:
    """The same for a multi-line text: line ends stay."""
    return "\n".join(map(escape, text.expandtabs().splitlines()))


def shortened(text: str, limit: int) -> str:
    """The escaped text, cut to at most `limit` characters."""
    shown = escape(text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _is_unsafe(char: str) -> bool:
    return char in BIDI_CONTROLS or unicodedata.category(char) in UNSAFE_CATEGORIES


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


class LogHandler(logging.Handler):
    """Prints a record as one line. `debug` adds the trace."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self.debug = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"[{record.levelname.lower()}] {self._message(record)}"
            self._output.note(line, style=STYLES.get(record.levelno, "dim"))
            if self.debug and record.exc_info:
                self._output.trace(logging.Formatter().formatException(record.exc_info))
        except Exception:  # a log line must not end the command
            self.handleError(record)

    def _message(self, record: logging.LogRecord) -> str:
        lines = record.getMessage().splitlines() or [""]
        message = " | ".join(lines) if self.debug else lines[0]
        cause = record.exc_info[1] if record.exc_info else None
        return message if cause is None else f"{message}: {type(cause).__name__}: {cause}"


@contextmanager
def logging_to(output: Output) -> Iterator[LogHandler]:
    """Print log records and Python warnings to `output` while the block runs."""
    handler = LogHandler(output)
    root, package, warnings = logging.getLogger(), logging.getLogger(PACKAGE), logging.getLogger(WARNINGS)
    before = package.level, warnings.level
    root.addHandler(handler)
    logging.captureWarnings(True)
    set_verbosity(handler, verbose=False, debug=False)
    try:
        yield handler
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        package.setLevel(before[0])
        warnings.setLevel(before[1])


def set_verbosity(handler: LogHandler, *, verbose: bool, debug: bool) -> None:
    """Set the log level of this package. Other libraries log from WARNING."""
    handler.debug = debug
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.getLogger(PACKAGE).setLevel(level)
    logging.getLogger(WARNINGS).setLevel(logging.WARNING if verbose or debug else logging.ERROR)
