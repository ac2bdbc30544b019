"""Conversion of a file of labelled texts to another format."""

from __future__ import annotations

import uuid
from pathlib import Path

import spacy
import srsly

from karen_learner.corpora.docbin import labelled_docs
from karen_learner.corpora.exporters import ExportFile, export_format, write_examples
from karen_learner.corpora.importers import CorpusSource, ImportedLines, iter_labelled
from karen_learner.errors import ImportFormatError, InvalidInput
from karen_learner.records import CATEGORY_TASKS, LabelledText, Record

DEV_EVERY = 10


class Conversion(Record):
    """The number of documents, the reasons of skipped lines, and the notes of the reader and the writer."""

    documents: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()


def convert_corpus(
    source: CorpusSource,
    target: Path,
    *,
    to: str | None = None,
    language: str = "en",
    labels: Path | None = None,
    dev: Path | None = None,
) -> Conversion:
    """Write the labelled texts of a file in the format `to`, by default that of the suffix of `target`.

    With `dev`, every tenth text goes there. `labels` is a folder for the label files of both text
    categorizers (`intent.json`, `sentiment.json`). `spacy train` reads them through `spacy.read_labels.v1`.
    Raises InvalidInput for an unknown format, and ImportFormatError, also if no line is usable; then nothing
    is written.
    """
    name = export_format(target, to)
    reading, skipped = iter_labelled(source), list[str]()
    read = _aligned if name == "spacy" else _labelled
    examples = read(reading, skipped, language)
    if not examples:
        why = f": {skipped[0]}" if skipped else ": it is empty"
        raise ImportFormatError(f"no line of {reading.file.path.name!r} is usable{why}")
    parts = {target: [one for at, one in enumerate(examples) if dev is None or at % DEV_EVERY]}
    if dev is not None:
        parts[dev] = examples[::DEV_EVERY]
    files = [_write_beside(path, part, name, language) for path, part in parts.items()]
    if labels is not None:
        _write_labels(labels, examples)
    lost = [note for file in files for note in file.notes]
    return Conversion(documents=len(examples), skipped=tuple(skipped), notes=(*reading.notes, *lost))


def _write_beside(target: Path, examples: list[LabelledText], name: str, language: str) -> ExportFile:
    """Write a file next to the target, then rename it: an interrupted write leaves the target as it was.

    A target that is no plain file, such as a pipe, is written itself. Raises InvalidInput.
    """
    place = target.resolve()
    is_plain = place.is_file() or not place.exists()
    written = place.with_name(f".{uuid.uuid4().hex}{place.suffix}") if is_plain else place
    file = ExportFile(written, language)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_examples(file, examples, name)
        if is_plain:
            written.replace(place)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        if is_plain:
            written.unlink(missing_ok=True)
    return file


def _labelled(reading: ImportedLines[LabelledText], skipped: list[str], _: str) -> list[LabelledText]:
    """The usable texts. The reasons of unusable lines go to `skipped`."""
    found = []
    for line in reading:
        if line.value is None:
            skipped.append(f"{reading.file.path.name} line {line.line}: {line.error}")
        else:
            found.append(line.value)
    return found


def _aligned(reading: ImportedLines[LabelledText], skipped: list[str], language: str) -> list[LabelledText]:
    """The usable texts that have a document in the language."""
    return [one for one, _ in labelled_docs(spacy.blank(language), reading, skipped=skipped)]


def _write_labels(folder: Path, examples: list[LabelledText]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for task in CATEGORY_TASKS:
        known = {getattr(example, task) for example in examples} - {None}
        srsly.write_json(folder / f"{task}.json", sorted(known))
