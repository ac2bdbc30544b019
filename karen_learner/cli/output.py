"""Output of a command: results to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn
from rich.text import Text

from karen_learner.cli.escape import escape, escape_lines

AddItem = Callable[[Any, RenderableType], None]

UNBOUNDED_WIDTH = 200
"""Columns of a table in a file or a pipe."""


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
