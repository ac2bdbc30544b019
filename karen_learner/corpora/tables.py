"""CSV tables of labelled texts and turns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from karen_learner.corpora.lines import MAX_LINE_BYTES, CorruptExample, Line, parse_json
from karen_learner.corpora.parsing import IGNORED_KEYS, ImportedLine, TurnInput, gold_or_turn, unknown_key
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText

_JSON_COLUMNS = ("entities", "user_feedback")
_COLUMNS = {*LabelledText.model_fields, *TurnInput.model_fields} | IGNORED_KEYS


def read_csv(path: Path) -> Iterator[ImportedLine]:
    """The lines of a UTF-8 table whose first line names the columns.

    `entities` and `user_feedback` hold JSON. An empty cell is a missing value. Raises ImportFormatError
    for an unknown column.
    """
    # The limit belongs to the process: raise it for long responses, never lower it.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        columns = _columns(path, next(reader, []))
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Line(line, error=f"not CSV: {error}")
                continue
            if cells is None:
                return
            if cells:
                yield Line(line, cells).parsed(partial(_values, columns)).parsed(gold_or_turn)


def _columns(path: Path, header: list[str]) -> list[str]:
    columns = [name.strip() for name in header]
    for name in columns:
        if name not in _COLUMNS:
            raise ImportFormatError(f"the columns of {path.name!r}: {unknown_key(name, _COLUMNS)}")
    if not {"text", "user_text"} & set(columns):
        raise ImportFormatError(
            f"{path.name!r} needs a first row that names its columns, among them 'text' or 'user_text'"
        )
    return columns


def _values(columns: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise CorruptExample(f"has {len(cells)} cells for {len(columns)} columns")
    try:
        "".join(cells).encode()
    except UnicodeEncodeError as error:  # a byte that `surrogateescape` replaced
        raise CorruptExample("not UTF-8") from error
    given = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
    try:
        return {name: parse_json(cell) if name in _JSON_COLUMNS else cell for name, cell in given.items()}
    except (ValueError, RecursionError) as error:
        raise CorruptExample(f"a cell holds no JSON: {error}") from error
