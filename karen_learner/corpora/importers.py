"""Importers by suffix. Each reads one kind of file line by line and reports bad lines.

A package adds an importer by an entry point in the group `karen_learner.importers`, named like the suffix
(`txt = "package.module:read_txt"`). A program adds one by `register_importer`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.batching import pages
from karen_learner.corpora.docbin import read_docbin
from karen_learner.corpora.lines import PAGE_LINES, read_json_lines
from karen_learner.corpora.parsing import ImportedLine, gold_or_turn
from karen_learner.corpora.tables import read_csv
from karen_learner.errors import ImportFormatError

Importer = Callable[[Path], Iterator[ImportedLine]]
"""Reads a file as a stream. Raises ImportFormatError or OSError only if the file as a whole is unusable."""

ENTRY_POINTS = "karen_learner.importers"


def read_jsonl(path: Path) -> Iterator[ImportedLine]:
    """The labelled texts and turns of a file of JSON lines."""
    return (line.parsed(gold_or_turn) for line in read_json_lines(path))


_importers: dict[str, Importer] = {".jsonl": read_jsonl, ".csv": read_csv, ".spacy": read_docbin}


def register_importer(suffix: str) -> Callable[[Importer], Importer]:
    """Decorator of a function that reads files of a suffix, such as `.jsonl`."""
    if not suffix.startswith(".") or suffix != suffix.lower():
        raise ValueError(f"a suffix is lower case and begins with a dot, unlike {suffix!r}")

    def register(importer: Importer) -> Importer:
        if suffix in _importers:
            raise ValueError(f"there is an importer for {suffix} already")
        _importers[suffix] = importer
        return importer

    return register


def known_suffixes() -> tuple[str, ...]:
    """The suffixes that have an importer."""
    return tuple(sorted({*_importers, *_offered()}))


def _offered() -> dict[str, EntryPoint]:
    """The importers of installed packages, by suffix."""
    return {f".{entry.name}": entry for entry in entry_points(group=ENTRY_POINTS)}


def _importer(path: Path) -> Importer:
    suffix = path.suffix.lower()
    if suffix in _importers:
        return _importers[suffix]
    entry = _offered().get(suffix)
    if entry is None:
        raise ImportFormatError(
            f"no importer for {path.name!r}: its suffix is {path.suffix!r}, known are "
            f"{', '.join(known_suffixes())}"
        )
    try:
        importer: Importer = entry.load()
    except Exception as error:
        raise ImportFormatError(
            f"the importer {entry.value!r} for {suffix} cannot be used: {error}"
        ) from error
    return importer


def iter_records(path: Path | str) -> Iterator[ImportedLine]:
    """The lines of a file as labelled texts, turns or errors. Blocking; see `aiter_records`.

    Raises ImportFormatError at the call for an unknown suffix or a missing file, and during iteration
    for an unreadable file.
    """
    path = Path(path)
    importer = _importer(path)
    if not path.is_file():
        raise ImportFormatError(f"there is no file {str(path)!r}")
    return _guarded(importer, path)


def _guarded(importer: Importer, path: Path) -> Iterator[ImportedLine]:
    try:
        yield from importer(path)
    except OSError as error:
        raise ImportFormatError(f"cannot read {str(path)!r}: {error}") from error


async def aiter_records(path: Path | str) -> AsyncIterator[ImportedLine]:
    """The lines of `iter_records`, read in a thread, 500 at a time."""
    lines = await call_in_executor(iter_records, path)
    async for page in pages(lines, PAGE_LINES):
        for line in page:
            yield line
