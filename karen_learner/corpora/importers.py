"""Importers by suffix: each reads one kind of file, line by line, and never stops at a bad one.

Another package adds one by an entry point in the group `karen_learner.importers`, named like the suffix
(`txt = "package.module:read_txt"`); a program by `register_importer`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from itertools import islice
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.corpora.imported import ImportedLine
from karen_learner.errors import ImportFormatError

Importer = Callable[[Path], Iterator[ImportedLine]]
"""Reads a file as a stream. Raises ImportFormatError or OSError only if the file as a whole is unusable."""

ENTRY_POINTS = "karen_learner.importers"
LINES_AT_A_TIME = 500

_importers: dict[str, Importer] = {}


def register_importer(suffix: str) -> Callable[[Importer], Importer]:
    """Decorate a function that reads files of this suffix, such as `.jsonl`."""
    if not suffix.startswith(".") or suffix != suffix.lower():
        raise ValueError(f"a suffix is lower case and begins with a dot, unlike {suffix!r}")

    def register(importer: Importer) -> Importer:
        if suffix in _importers:
            raise ValueError(f"there is an importer for {suffix} already")
        _importers[suffix] = importer
        return importer

    return register


def known_suffixes() -> tuple[str, ...]:
    """The suffixes for which there is an importer."""
    return tuple(sorted({*_importers, *_offered()}))


def _offered() -> dict[str, EntryPoint]:
    """What installed packages bring, by suffix."""
    return {f".{entry.name}": entry for entry in entry_points(group=ENTRY_POINTS)}


def _importer(suffix: str) -> Importer | None:
    if suffix in _importers:
        return _importers[suffix]
    entry = _offered().get(suffix)
    if entry is None:
        return None
    try:
        importer: Importer = entry.load()
    except Exception as error:
        raise ImportFormatError(
            f"the importer {entry.value!r} for {suffix} cannot be used: {error}"
        ) from error
    return importer


def iter_records(path: Path | str) -> Iterator[ImportedLine]:
    """The lines of a file as labelled texts and turns; a bad line comes with its reason.

    Blocks: see `aiter_records`. Raises ImportFormatError at once for an unknown suffix or a file that
    is not there, and while reading for one that cannot be read at all.
    """
    path = Path(path)
    importer = _importer(path.suffix.lower())
    if importer is None:
        known = ", ".join(known_suffixes())
        raise ImportFormatError(
            f"no importer for {path.name!r}: its suffix is {path.suffix!r}, known are {known}"
        )
    if not path.is_file():
        raise ImportFormatError(f"there is no file {str(path)!r}")
    return _guarded(importer, path)


def _guarded(importer: Importer, path: Path) -> Iterator[ImportedLine]:
    try:
        yield from importer(path)
    except OSError as error:
        raise ImportFormatError(f"cannot read {str(path)!r}: {error}") from error


async def aiter_records(path: Path | str) -> AsyncIterator[ImportedLine]:
    """The same, read in a thread, 500 lines at a time."""
    lines = await call_in_executor(iter_records, path)
    while page := await call_in_executor(lambda: list(islice(lines, LINES_AT_A_TIME))):
        for line in page:
            yield line
