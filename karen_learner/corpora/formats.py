"""The kinds of files that can be imported. To add one, decorate a reader with `register_importer`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from karen_learner.corpora.imported import IGNORED_KEYS, ImportedLine, TurnInput, imported_line
from karen_learner.corpora.importers import register_importer
from karen_learner.corpora.problems import unknown_key
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText

MAX_LINE_BYTES = 4_000_000
"""A longer line is no line of ours; it is skipped without being held in memory."""

SENTIMENTS = frozenset({"negative", "neutral", "positive"})
"""A DocBin does not say to which task a category belongs: these are sentiments, all others intents."""

_BOM = b"\xef\xbb\xbf"
_JSON_COLUMNS = ("entities", "user_feedback")
_COLUMNS = {*LabelledText.model_fields, *TurnInput.model_fields} | IGNORED_KEYS


@register_importer(".jsonl")
def read_jsonl(path: Path) -> Iterator[ImportedLine]:
    """One JSON object a line, in UTF-8. Blank lines count, but hold nothing."""
    with path.open("rb") as file:
        for number, raw in _byte_lines(file):
            if raw is None:
                yield ImportedLine(number, error=f"longer than {MAX_LINE_BYTES:,} bytes")
            elif raw.strip():
                yield _from_json(number, raw)


def _byte_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines without a byte order mark; None for one that is too long."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES):
        number += 1
        too_long = len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n")
        while too_long and (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield number, None if too_long else raw.removeprefix(_BOM) if number == 1 else raw


def _from_json(number: int, raw: bytes) -> ImportedLine:
    try:
        return imported_line(number, json.loads(raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        return ImportedLine(number, error=f"not UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return ImportedLine(number, error=f"not JSON: {error}")


@register_importer(".csv")
def read_csv(path: Path) -> Iterator[ImportedLine]:
    """A table in UTF-8 whose first row names the columns. `entities` and `user_feedback` hold JSON; an
    empty cell is an absent one. Raises ImportFormatError for a column that is not known."""
    # The limit is the process's: raise it, so that long responses fit, but never lower it.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file)
        columns = _columns(path, next(rows, []))
        while True:
            line = rows.line_num + 1
            try:
                cells = next(rows, None)
            except csv.Error as error:
                yield ImportedLine(line, error=f"not CSV: {error}")
                continue
            if cells is None:
                return
            if cells:
                yield _from_row(line, columns, cells)


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


def _from_row(line: int, columns: list[str], cells: list[str]) -> ImportedLine:
    if len(cells) != len(columns):
        return ImportedLine(line, error=f"has {len(cells)} cells for {len(columns)} columns")
    if any(map(_is_escaped, cells)):
        return ImportedLine(line, error="not UTF-8")
    try:
        values = {name: _cell(name, cell) for name, cell in zip(columns, cells, strict=True) if cell}
    except (ValueError, RecursionError) as error:
        return ImportedLine(line, error=f"a cell holds no JSON: {error}")
    return imported_line(line, values)


def _is_escaped(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell)


def _cell(name: str, cell: str) -> Any:
    return json.loads(cell) if name in _JSON_COLUMNS else cell


@register_importer(".spacy")
def read_docbin(path: Path) -> Iterator[ImportedLine]:
    """Gold documents: categories with the value 1.0, and entities where they are annotated."""
    try:
        documents = DocBin().from_disk(path).get_docs(Vocab())
        for number, doc in enumerate(documents, start=1):
            yield _from_doc(number, doc)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ImportFormatError(f"{path.name!r} is no DocBin of spaCy: {error}") from error


def _from_doc(number: int, doc: Doc) -> ImportedLine:
    chosen = [label for label, value in doc.cats.items() if value == 1.0]
    intents = [label for label in chosen if label not in SENTIMENTS]
    sentiments = [label for label in chosen if label in SENTIMENTS]
    if len(intents) > 1 or len(sentiments) > 1:
        return ImportedLine(number, error=f"has several categories of one task: {', '.join(chosen)}")
    values: dict[str, Any] = {
        "text": doc.text,
        "intent": intents[0] if intents else None,
        "sentiment": sentiments[0] if sentiments else None,
    }
    if doc.has_annotation("ENT_IOB"):
        values["entities"] = [(span.start_char, span.end_char, span.label_) for span in doc.ents]
    return imported_line(number, values)
