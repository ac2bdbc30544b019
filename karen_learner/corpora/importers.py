"""Importers by the name of a format. Each reads one kind of file as a stream and reports bad lines.

A package adds an importer by an entry point in the group `karen_learner.importers`, named like the suffix
(`txt = "package.module:read_txt"`). A program adds one by `register_importer`. Both take a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from asyncio_extras import call_in_executor

from karen_learner.concurrency import pages
from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.lines import PAGE_LINES, CorruptExample, Line
from karen_learner.corpora.parsing import ImportedLine, TurnInput, gold_or_turn, labelled_text
from karen_learner.corpora.registry import FormatRegistry
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText

Importer = Callable[[Path], Iterator[ImportedLine]]
"""Reads a file as a stream. Raises ImportFormatError or OSError only if the file as a whole is unusable."""
Reader = Callable[[CorpusFile], Iterator[Line[Any]]]
"""An importer of this library. It yields records, examples or turns."""
CorpusSource = CorpusFile | Path | str
ValueT = TypeVar("ValueT")

A_TURN = "a turn, where a labelled text is needed (a line with 'text')"

OURS = {
    "conll": "karen_learner.corpora.formats.conll:read_conll",
    "csv": "karen_learner.corpora.formats.tables:read_table",
    "dialogflow": "karen_learner.corpora.formats.dialogflow:read_dialogflow",
    "doccano": "karen_learner.corpora.formats.doccano:DOCCANO.read",
    "jsonl": "karen_learner.corpora.formats.json_records:read_json_records",
    "label-studio": "karen_learner.corpora.formats.label_studio:LABEL_STUDIO.read",
    "prodigy": "karen_learner.corpora.formats.prodigy:PRODIGY.read",
    "rasa": "karen_learner.corpora.formats.rasa:read_rasa",
    "spacy": "karen_learner.corpora.docbin:read_docbin",
    "spacy-json": "karen_learner.corpora.formats.spacy_json:SPACY_JSON.read",
}
SUFFIXES = {
    ".bio": "conll",
    ".conll": "conll",
    ".csv": "csv",
    ".iob": "conll",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".md": "rasa",
    ".ndjson": "jsonl",
    ".spacy": "spacy",
    ".tab": "csv",
    ".tsv": "csv",
    ".yaml": "rasa",
    ".yml": "rasa",
    ".zip": "dialogflow",
}
"""The formats of suffixes. A suffix that equals the name of another format has that format."""

SPREADSHEETS = (".xls", ".xlsx", ".ods", ".numbers")
OF_FOLDERS: Collection[str] = ("dialogflow", "rasa")
"""Formats whose files may be folders."""

importers: FormatRegistry[Importer | Reader] = FormatRegistry("importer", "karen_learner.importers", OURS)
register_importer = importers.register
"""Decorator of a function that reads a format, see `Importer`."""


def known_suffixes() -> tuple[str, ...]:
    """The suffixes that have an importer."""
    return tuple(
        sorted({*SUFFIXES, *(f".{name}" for name in importers.names() if not importers.is_ours(name))})
    )


class ImportedLines(Iterator[Line[ValueT]]):
    """The usable and the unusable lines of one file. `notes` are complete after the last one."""

    def __init__(self, file: CorpusFile, format_name: str, parse: Callable[[object], ValueT]) -> None:
        self.file = file
        self.format = format_name
        self._parse = parse
        self._lines = self._read()
        self._noted: Counter[str] = Counter()

    def __next__(self) -> Line[ValueT]:
        for line in self._lines:
            if line.note is None:
                return line.parsed(self._parse)
            self._noted[line.note] += 1
        raise StopIteration

    @property
    def notes(self) -> tuple[str, ...]:
        """The parts of the file that were left out on purpose, with their number if there are several."""
        return tuple(note if count == 1 else f"{note} ({count} times)" for note, count in self._noted.items())

    def _read(self) -> Iterator[Line[Any]]:
        read: Any = importers.find(self.format)
        try:
            yield from read(self.file if importers.is_ours(self.format) else self.file.path)
        except OSError as error:
            raise ImportFormatError(f"cannot read {str(self.file.path)!r}: {error}") from error


def iter_records(source: CorpusSource) -> ImportedLines[LabelledText | TurnInput]:
    """The lines of a file as labelled texts, turns or errors. Blocking; see `aiter_records`.

    Raises ImportFormatError at the call for an unknown format or a missing file, and during iteration for an
    unreadable file.
    """
    return _reading(source, _example_or_turn)


def iter_labelled(source: CorpusSource, *, unlabelled: bool = False) -> ImportedLines[LabelledText]:
    """The same for labelled texts alone: a turn is an error. `unlabelled` accepts texts without a label."""
    return _reading(source, _text if unlabelled else _example)


def required(reading: ImportedLines[ValueT]) -> list[ValueT]:
    """The values of all lines. Raises ImportFormatError at the first line that is unusable."""
    found = []
    for line in reading:
        if line.value is None:
            raise ImportFormatError(f"{reading.file.path} line {line.line}: {line.error}")
        found.append(line.value)
    return found


def _reading(source: CorpusSource, parse: Callable[[object], ValueT]) -> ImportedLines[ValueT]:
    file = CorpusFile.of(source)
    name = format_of(file)
    importers.find(name)
    if not file.path.exists() or (file.path.is_dir() and name not in OF_FOLDERS):
        raise ImportFormatError(f"there is no file {str(file.path)!r}")
    return ImportedLines(file, name, parse)


def _example_or_turn(value: object) -> LabelledText | TurnInput:
    return value if isinstance(value, (LabelledText, TurnInput)) else gold_or_turn(value)


def _example(value: object) -> LabelledText:
    found = _example_or_turn(value)
    if isinstance(found, TurnInput):
        raise CorruptExample(A_TURN)
    return found


def _text(value: object) -> LabelledText:
    return value if isinstance(value, LabelledText) else labelled_text(value)


def format_of(file: CorpusFile) -> str:
    """The name of the format of a file: the given one, else that of its suffix. Raises ImportFormatError."""
    name = file.format or _format_of_place(file.path)
    name = name or SUFFIXES.get(file.suffix) or file.suffix.removeprefix(".")
    if file.format is None and file.suffix in SPREADSHEETS:
        raise ImportFormatError(
            f"{file.path.name!r} is a spreadsheet: save it as 'CSV UTF-8', with a header row"
        )
    if file.format is None and name not in importers and file.path.is_dir():
        raise ImportFormatError(
            f"no importer for the folder {file.path.name!r}: it has neither YAML files of Rasa nor a folder "
            "'intents' of Dialogflow; give a file"
        )
    if file.format is None and name not in importers:
        raise ImportFormatError(
            f"no importer for {file.path.name!r}: its suffix is {file.suffix!r}, known are "
            f"{', '.join(known_suffixes())}; --format names the format of another suffix: "
            f"{', '.join(importers.names())}"
        )
    return name


def _format_of_place(path: Path) -> str | None:
    """The format that a folder, or the name of a file of Dialogflow, tells; None for another file."""
    if path.is_dir():
        if (path / "intents").is_dir():
            return "dialogflow"
        return "rasa" if any(SUFFIXES.get(each.suffix) == "rasa" for each in path.rglob("*.y*ml")) else None
    return "dialogflow" if "_usersays_" in path.name and path.suffix == ".json" else None


async def aiter_records(
    source: CorpusSource | ImportedLines[LabelledText | TurnInput],
) -> AsyncIterator[ImportedLine]:
    """The lines of `iter_records`, read in a thread, 500 at a time."""
    lines = source if isinstance(source, ImportedLines) else await call_in_executor(iter_records, source)
    async for page in pages(lines, PAGE_LINES):
        for line in page:
            yield line
