"""JSON lines and other JSON values of a file, and the writer of examples."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Generic, NoReturn, TextIO, TypeVar

from asyncio_extras import call_in_executor

from karen_learner.concurrency import pages
from karen_learner.corpora.exporters import ExportFile
from karen_learner.corpora.text_files import (
    GZIP_SUFFIX,
    MAX_DOCUMENT_CHARS,
    MAX_LINE_CHARS,
    UndecodedText,
    check_decoded,
    is_cut,
    open_text,
    require_document,
    text_lines,
)
from karen_learner.disk import make_folder, open_private
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText, SkippedLine

ValueT = TypeVar("ValueT")
ParsedT = TypeVar("ParsedT")

PAGE_LINES = 500
MAX_SKIPPED_LISTED = 1000


class CorruptExample(ValueError):
    """A line that is no example, or an example that is no document."""


class LeftOut(ValueError):
    """A part of a file that is left out on purpose. The message is the note about it."""


@dataclass(frozen=True)
class Line(Generic[ValueT]):
    """The `value` of a line, or the `error` of a line without one. Lines count from 1.

    A line that is left out on purpose has a `note` instead.
    """

    line: int
    value: ValueT | None = None
    error: str | None = None
    note: str | None = None

    def parsed(self, parse: Callable[[Any], ParsedT]) -> Line[ParsedT]:
        """The line with the value that `parse` returns, or with the problem that it raises."""
        if self.error is not None or self.note is not None:
            return Line(self.line, error=self.error, note=self.note)
        try:
            return Line(self.line, parse(self.value))
        except CorruptExample as error:
            return Line(self.line, error=str(error))
        except LeftOut as left_out:
            return Line(self.line, note=str(left_out))


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
    """The lines of a file with one JSON value a line. Blocking. `open_text` decodes the file.

    Lines end with a line feed. Blank lines are numbered but omitted. NaN, Infinity, a key that is given
    twice, undecoded bytes and lines above MAX_LINE_CHARS are errors. Raises OSError, ImportFormatError.
    """
    with open_text(path) as file:
        yield from _json_lines(text_lines(file))


def read_json_values(path: Path, *, encoding: str | None = None) -> Iterator[Line[Any]]:
    """The values of a file: JSON lines, the items of one array, or values that span several lines.

    If the first line is only the beginning of a value, the file is read as a whole. The numbers then count
    its values. Raises the errors of `read_json_lines`, and ImportFormatError for a broken `.json` file.
    """
    with open_text(path, encoding=encoding) as file:
        before, first = _first_line(file)
        if _is_beginning(first):
            text = first + file.read(MAX_DOCUMENT_CHARS)
            values = _values_of(path, text)
            if values is None:
                yield from _json_lines(text_lines(StringIO(text, newline="\n")), before)
            else:
                yield from (Line(number, value) for number, value in enumerate(values, start=1))
            return
        lines = chain([first] if first else [], text_lines(file))
        yield from _json_lines(lines, before)


def _first_line(file: TextIO) -> tuple[int, str]:
    """The number of leading blank lines, and the first other line, which may be cut."""
    blank = 0
    while line := file.readline(MAX_LINE_CHARS):
        if line.strip():
            return blank, line
        blank += line.endswith("\n")
    return blank, ""


def _is_beginning(first: str) -> bool:
    """Whether a line begins an array, or a value that the next lines continue."""
    if first.lstrip()[:1] not in ("[", "{"):
        return False
    try:
        value = parse_json(first)
    except json.JSONDecodeError as error:
        return is_cut(first) or error.pos >= len(first.rstrip())
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list)


def _values_of(path: Path, text: str) -> list[Any] | None:
    """The items of an array, or the values of a text; None for JSON lines. Raises ImportFormatError."""
    require_document(path, text)
    values, at = [], 0
    try:
        while (at := _end_of_space(text, at)) < len(text):
            value, at = _DECODER.raw_decode(text, at)
            values.append(value)
    except (ValueError, RecursionError) as error:
        if Path(path.name.removesuffix(GZIP_SUFFIX)).suffix != ".json":
            return None
        raise ImportFormatError(f"{path.name!r} is not JSON: {error}") from error
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _json_lines(lines: Iterable[str], before: int = 0) -> Iterator[Line[Any]]:
    """The values of lines, after a number of blank lines."""
    for number, line in enumerate(lines, start=before + 1):
        if is_cut(line) or line.strip():
            yield Line(number, line).parsed(_decoded)


def _decoded(line: str) -> Any:
    if is_cut(line):
        raise CorruptExample(f"longer than {MAX_LINE_CHARS:,} characters")
    try:
        check_decoded(line)
        return parse_json(line)
    except UndecodedText as error:
        raise CorruptExample(f"not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise CorruptExample(f"not JSON: {error.msg} at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptExample(f"not JSON: {error}") from error


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises RecursionError, and ValueError also for NaN and repeated keys."""
    return _DECODER.decode(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:60]!r} is given twice")
    return values


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
_SPACE = re.compile(r"\s*")


def to_line(example: LabelledText, **more: object) -> str:
    """The line of an example, without its line feed, with `more` keys; unknown labels are left out."""
    line: dict[str, object] = {"text": example.text, **more}
    if example.intent is not None:
        line["intent"] = example.intent
    if example.sentiment is not None:
        line["sentiment"] = example.sentiment
    if example.entities is not None:
        line["entities"] = example.entity_rows
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


def write_json_lines(file: ExportFile, examples: Iterable[LabelledText]) -> int:
    """Write examples as JSON lines and return their number. Blocking."""
    count = 0
    with open_private(file.path) as out:
        for example in examples:
            out.write(to_line(example) + "\n")
            count += 1
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
