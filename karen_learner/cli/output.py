"""Where a command's words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn
from rich.text import Text

from karen_learner.cli.visible import visible, visible_lines

AddItem = Callable[[Any, RenderableType], None]

UNBOUNDED_WIDTH = 200
"""Columns of a table that goes to a file or a pipe."""


class Output:
    """The two streams of one invocation. With `json`, standard output holds one JSON document."""

    def __init__(self) -> None:
        self.json = False
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)
        self._documented = False

    def result(self, document: Any, *shown: RenderableType) -> None:
        """What the command was called for: the document with `--json`, the tables without."""
        if self.json:
            self._write_document(document)
        else:
            for renderable in shown:
                self._out.print(renderable)

    @contextmanager
    def stream(self) -> Iterator[AddItem]:
        """A result that comes item by item: an array with `--json`, one thing below the other without.

        The array is begun with its first item, and is whole even if the block fails later.
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
        """Human words beside the result."""
        self._err.print(Text(visible(text), style=style), soft_wrap=True)

    def error(self, message: str, *, kind: str) -> None:
        """One clear sentence, and with `--json` the same as the document."""
        self.note(f"karen-learner: error: {message}", style="bold red")
        if self.json and not self._documented:
            self._write_document({"error": message, "type": kind})

    def trace(self, text: str) -> None:
        """A stack trace, for those who asked for it."""
        self._err.print(Text(visible_lines(text)), soft_wrap=True)

    def ask(self, question: str) -> bool:
        """A yes or a no from standard input. Raises EOFError when nobody is there to answer."""
        self._err.print(Text(f"{visible(question)} [y/N] "), end="", soft_wrap=True)
        return input().strip().lower() in {"y", "yes"}

    def progress(self, *columns: ProgressColumn) -> Progress:
        """Bars on standard error, where a person watches; silent with `--json` or in a pipe."""
        watched = self._err.is_terminal and not self.json
        return Progress(*columns, console=self._err, transient=True, disable=not watched)

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
    """ASCII alone: no control character of a user's text reaches a terminal, in any encoding."""
    return json.dumps(value, indent=indent, ensure_ascii=True, allow_nan=False)


def _console(file: IO[str]) -> Console:
    is_terminal = file.isatty()
    return Console(
        file=file, highlight=False, markup=False, emoji=False, width=None if is_terminal else UNBOUNDED_WIDTH
    )
