"""JSON lines: the reader that all others use, and the writer of examples."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, Any, Generic, NoReturn, TypeVar

from asyncio_extras import call_in_executor

from karen_learner.batching import pages
from karen_learner.errors import ImportFormatError
from karen_learner.private_files import make_folder, open_private
from karen_learner.records import LabelledText, SkippedLine

ValueT = TypeVar("ValueT")
ParsedT = TypeVar("ParsedT")

MAX_LINE_BYTES = 4_000_000
"""Longer lines are errors and are not held in memory."""
PAGE_LINES = 500
MAX_SKIPPED_LISTED = 1000
_BOM = b"\xef\xbb\xbf"


class CorruptExample(ValueError):
    """A line that is no example, or an example that is no document."""


@dataclass(frozen=True)
class Line(Generic[ValueT]):
    """The `value` of a line, or the `error` of a line without one. Lines count from 1."""

    line: int
    value: ValueT | None = None
    error: str | None = None

    def parsed(self, parse: Callable[[Any], ParsedT]) -> Line[ParsedT]:
        """The line with the value that `parse` returns, or with the CorruptExample that it raises."""
        if self.error is not None:
            return Line(self.line, error=self.error)
        try:
            return Line(self.line, parse(self.value))
        except CorruptExample as error:
            return Line(self.line, error=str(error))


class SkippedLines:
    """Counts the skipped lines and keeps the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[SkippedLine] = []

    def add(self, line: int, reason: str) -> None:
        self.count += 1
        if len(self.first) < MAX_SKIPPED_LISTED:
            self.first.append(SkippedLine(line=line, reason=reason))


def read_json_lines(path: Path) -> Iterator[Line[Any]]:
    """The lines of a UTF-8 file with one JSON value a line. Blocking.

    Lines end with a line feed. Blank lines are numbered but omitted, a byte order mark is ignored. NaN,
    Infinity, other encodings and lines above MAX_LINE_BYTES are errors. Raises OSError.
    """
    with path.open("rb") as file:
        if file.peek(len(_BOM)).startswith(_BOM):
            file.read(len(_BOM))
        for number, raw in enumerate(_byte_lines(file), start=1):
            if _is_cut(raw) or raw.strip():
                yield Line(number, raw).parsed(_decoded)


def require_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The numbers and values of all lines. Raises ImportFormatError at the first line with an error."""
    for line in read_json_lines(path):
        if line.error is not None:
            raise ImportFormatError(f"{path} line {line.line}: {line.error}")
        yield line.line, line.value


def _byte_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, each cut after MAX_LINE_BYTES."""
    while raw := file.readline(MAX_LINE_BYTES):
        rest = raw
        while _is_cut(rest):
            rest = file.readline(MAX_LINE_BYTES)
        yield raw


def _is_cut(raw: bytes) -> bool:
    return len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n")


def _decoded(raw: bytes) -> Any:
    if _is_cut(raw):
        raise CorruptExample(f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        return parse_json(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CorruptExample(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptExample(f"not JSON: {error}") from error


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError (for NaN and Infinity, too) and RecursionError."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def to_line(example: LabelledText, **more: object) -> str:
    """The line of an example, without its line feed, with `more` keys; unknown labels are left out."""
    line: dict[str, object] = {"text": example.text, **more}
    if example.intent is not None:
        line["intent"] = example.intent
    if example.sentiment is not None:
        line["sentiment"] = example.sentiment
    if example.entities is not None:
        line["entities"] = [[span.start, span.end, span.label] for span in example.entities]
    return json.dumps(line, ensure_ascii=False)


async def write_lines(
    path: Path,
    examples: AsyncIterable[LabelledText] | Iterable[LabelledText],
    **columns: Iterable[object],
) -> int:
    """Write examples as JSON lines and return their number.

    Each of the `columns` is a further key, with one value for each example. Raises ValueError if a column has
    fewer or more values.
    """
    rows = zip(*columns.values(), strict=True) if columns else repeat(())

    def line_of(example: LabelledText) -> str:
        row = next(rows, None)
        if row is None:
            raise ValueError(f"the columns {', '.join(columns)} have fewer values than there are examples")
        return to_line(example, **dict(zip(columns, row, strict=True)))

    count = await write_text(path, examples, line_of)
    if columns and next(rows, None) is not None:
        raise ValueError(f"the columns {', '.join(columns)} have more values than the {count} examples")
    return count


async def write_text(
    path: Path, items: AsyncIterable[ValueT] | Iterable[ValueT], to_text: Callable[[ValueT], str]
) -> int:
    """Write one line for each item to a new file, a page at a time, and return the number of lines."""
    count = 0
    await call_in_executor(_create, path)
    async for page in pages(items, PAGE_LINES):
        count += len(page)
        await call_in_executor(_append, path, map(to_text, page))
    return count


def _create(path: Path) -> None:
    make_folder(path.parent)
    open_private(path, "wb").close()


def _append(path: Path, lines: Iterable[str]) -> None:
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)
