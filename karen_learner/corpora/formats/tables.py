"""Tables of labelled texts and turns: comma-, semicolon- or tab-separated values."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import TextIOWrapper
from itertools import chain
from typing import Any

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.exporters import ExportFile
from karen_learner.corpora.keys import RecordKeys, misspelt, named
from karen_learner.corpora.lines import CorruptExample, Line, parse_json, to_line
from karen_learner.corpora.text_files import MAX_LINE_CHARS, UndecodedText, check_decoded, open_text
from karen_learner.disk import open_private
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText

JSON_KEYS = ("entities", "user_feedback", "corrected_entities")
MAY_BE_EMPTY = "assistant_response"
WRITTEN_COLUMNS = ("text", "intent", "sentiment", "entities")
SEPARATORS = ",;\t|"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Spreadsheets run a cell with such a beginning as a formula. OWASP, "CSV Injection": an apostrophe before it
makes it a text."""


def read_table(file: CorpusFile) -> Iterator[Line[Any]]:
    """The rows of a table as records. The first row names the columns.

    The separator is the one that divides the first row into most columns, or that of a line `sep=;` before
    it. `entities` and `user_feedback` hold JSON. An empty cell is a missing value, an empty row a blank line.
    Raises ImportFormatError for columns that cannot be read.
    """
    # The limit belongs to the process: raise it for long responses, never lower it.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_CHARS))
    with open_text(file.path, encoding=file.encoding, newline="") as text:
        pieces = iter(partial(text.readline, MAX_LINE_CHARS), "")
        first = next(pieces, "")
        separator, before = _stated_separator(first), 0
        if separator is not None:
            first, before = next(pieces, ""), 1
        reader = csv.reader(chain([first], pieces), delimiter=separator or _separator_of(first))
        columns = _columns(file, next(reader, []))
        values = partial(_values, columns, {column: file.name(column) for column in columns})
        keys = RecordKeys(file)
        while True:
            line = before + reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Line(line, error=f"not CSV: {error}")
                continue
            if cells is None:
                break
            if any(cell.strip() for cell in cells):
                cells = [as_value(cell) for cell in cells]
                yield Line(line, cells).parsed(values).parsed(keys.values)
        if keys.ignored:
            yield Line(line, note=f"ignored the columns {named(keys.ignored)}")


def _stated_separator(line: str) -> str | None:
    """The separator of the line `sep=;` that Excel reads and writes."""
    stated = line.strip("\r\n")
    return stated[-1] if len(stated) == 5 and stated.lower().startswith("sep=") else None


def _separator_of(header: str) -> str:
    """The separator that divides the header into most columns; the comma of equals."""

    def columns(separator: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=separator), []))
        except csv.Error:
            return 0

    return max(SEPARATORS, key=columns)


def _columns(file: CorpusFile, header: Sequence[str]) -> list[str]:
    """The names of the columns. Raises ImportFormatError if they are not usable."""
    table, columns = file.path.name, [cell.strip() for cell in header]
    ours = [file.name(column) for column in columns if column]
    if twice := sorted({column for column in ours if ours.count(column) > 1}):
        raise ImportFormatError(f"the columns of {table!r}: {named(twice)} is there twice")
    if problem := misspelt(ours):
        raise ImportFormatError(f"the columns of {table!r}: {problem}")
    if not {"text", "user_text"} & set(ours):
        found = named(columns) if ours else "empty"
        raise ImportFormatError(
            f"{table!r} needs a first row that names its columns, among them 'text' or 'user_text'; it is "
            f"{found}. --map COLUMN=text names another column"
        )
    return columns


def _values(columns: Sequence[str], names: Mapping[str, str], cells: Sequence[str]) -> dict[str, Any]:
    """The cells of a row by column, without empty ones. Columns without a name are empty.

    `names` are our names of the columns.
    """
    if len(cells) < len(columns) or any(cells[len(columns) :]):
        raise CorruptExample(f"has {len(cells)} cells for {len(columns)} columns")
    try:
        check_decoded("".join(cells))
    except UndecodedText as error:
        raise CorruptExample(f"not UTF-8: {error}") from error
    if any(cell and not name for name, cell in zip(columns, cells, strict=False)):
        raise CorruptExample("has a value in a column without a name")
    given = {
        name: cell for name, cell in zip(columns, cells, strict=False) if cell or names[name] == MAY_BE_EMPTY
    }
    try:
        return {name: parse_json(cell) if names[name] in JSON_KEYS else cell for name, cell in given.items()}
    except (ValueError, RecursionError) as error:
        raise CorruptExample(f"a cell holds no JSON: {error}") from error


def as_cell(value: str) -> str:
    """The cell of a value: an apostrophe comes before the beginning of a formula."""
    return f"'{value}" if _FORMULA.match(value) else value


def as_value(cell: str) -> str:
    """The value of a cell, without the apostrophe of `as_cell`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_table(file: ExportFile, examples: Iterable[LabelledText]) -> int:
    """Write examples as comma-separated values, which Excel reads: UTF-8 with a byte order mark."""
    count = 0
    with open_private(file.path, "wb") as raw, TextIOWrapper(raw, "utf-8-sig", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(WRITTEN_COLUMNS)
        for example in examples:
            values = json.loads(to_line(example))
            if example.entities is not None:
                values["entities"] = json.dumps(values["entities"], ensure_ascii=False)
            writer.writerow([as_cell(values.get(column, "")) for column in WRITTEN_COLUMNS])
            count += 1
    return count
