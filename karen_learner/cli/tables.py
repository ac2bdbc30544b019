"""Tables, facts and cells of the terminal output. All foreign text is escaped."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from karen_learner.cli.output import escape, text

TEXT_CHARS = 72
SHORT_CHARS = 8
VERSION_NAME = re.compile(r"v\d+-[0-9a-f]+")
FOLDED_WIDTH = 12
"""Least width of a column that may fold."""


class FittingTable:
    """A table of mappings with equal keys. Columns without values are omitted.

    Numbers are right-aligned, None is a dash. A table that is too wide for the terminal loses columns of
    `optional`, in this order. If `folded` is given, only this column may fold. All columns of a table that
    is still too wide may fold.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, object]],
        *,
        title: str = "",
        optional: Iterable[str] = (),
        folded: str = "",
    ) -> None:
        self._title = title
        self._optional = tuple(optional)
        self._folded = folded
        columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
        known = {
            name: values for name, values in columns.items() if any(value is not None for value in values)
        }
        self._numeric = {name for name, values in known.items() if all(map(_is_numeric, values))}
        self._cells = {name: [_cell(value) for value in values] for name, values in known.items()}

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        columns, optional = dict(self._cells), list(self._optional)
        while (wide := sum(self._width(name) + 3 for name in columns) > options.max_width + 1) and optional:
            columns.pop(optional.pop(0), None)
        if self._title:  # a title of the table itself would wrap at the width of the table
            yield Text(self._title, style="table.title")
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            made.add_column(
                name,
                justify="right" if name in self._numeric else "left",
                overflow="fold",
                no_wrap=bool(self._folded) and name != self._folded and not wide,
            )
        for row in zip(*columns.values(), strict=True):
            made.add_row(*row)
        yield made

    def _width(self, name: str) -> int:
        longest = max(cell_len(name), *(cell.cell_len for cell in self._cells[name]))
        return min(longest, FOLDED_WIDTH) if name == self._folded else longest


def _is_numeric(value: object) -> bool:
    return value is None or isinstance(value, (int, float))


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    return text("-" if value is None else f"{value:.3f}" if isinstance(value, float) else value)


def facts(pairs: Mapping[str, object]) -> Table:
    """Names and values, one pair a line. Values of None are omitted."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs.items():
        if value is not None:
            made.add_row(name, _cell(value))
    return made


def command_line(home: Path, *words: str) -> str:
    """A command line, quoted for a shell."""
    at = () if home == Path() else ("--home", str(home))
    return shlex.join(["karen-learner", *at, *words])


def short_id(name: str) -> str:
    """The part of an id that a person types: the number of a version, else eight digits.

    Commands accept the beginning of an id, and of its part after the hyphen, unless it is ambiguous.
    """
    if VERSION_NAME.fullmatch(name):
        return name.partition("-")[0]
    return name.rpartition("-")[2][:SHORT_CHARS]


def place_text(path: Path, home: Path) -> str:
    """A path, relative to the home if it is below it: a home may be moved."""
    return str(path.relative_to(home.absolute()) if path.is_relative_to(home.absolute()) else path)


def utc_text(value: datetime) -> str:
    """Time in UTC with seconds."""
    return f"{value:%Y-%m-%d %H:%M:%S}Z"


def minute_text(value: datetime) -> str:
    """Time in UTC with minutes, for tables."""
    return f"{value:%Y-%m-%d %H:%M}Z"


def cut(foreign: str) -> str:
    """A text of a user, escaped and cut for a table."""
    shown = escape(foreign)
    return shown if len(shown) <= TEXT_CHARS else shown[: TEXT_CHARS - 1] + "…"


def change(before: float, after: float) -> Text:
    """The signed difference, green for a gain and red for a loss."""
    return text(f"{after - before:+.3f}", "green" if after > before else "red" if after < before else "")


def interval_text(interval: tuple[float, float], *, signed: bool = False) -> str:
    """The bounds of an interval."""
    low, high = (f"{bound:+.3f}" if signed else f"{bound:.3f}" for bound in interval)
    return f"{low} to {high}"
