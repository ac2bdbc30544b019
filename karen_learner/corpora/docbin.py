"""Examples as spaCy documents, and DocBin files.

An unknown category is missing from `doc.cats`. Unknown entities are missing annotation (`ent_iob` 0),
which differs from no entities.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab

from karen_learner.components.documents import make_doc
from karen_learner.components.online.sample_weights import set_sample_weight
from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.exporters import ExportFile
from karen_learner.corpora.formats.labels import categories
from karen_learner.corpora.importers import ImportedLines
from karen_learner.corpora.lines import CorruptExample, Line, read_json_lines
from karen_learner.corpora.parsing import CorpusLine, corpus_line, require_text
from karen_learner.disk import make_folder, open_private
from karen_learner.errors import ImportFormatError
from karen_learner.records import TASKS, EntitySpan, LabelledText, Task

logger = logging.getLogger(__name__)

MAX_UNPACKED_BYTES = 1_000_000_000
"""Of a DocBin: about a million texts. A small file can unpack to more than the memory."""
PIECE_BYTES = 1 << 20


def to_doc(nlp: Language, example: LabelledText) -> Doc:
    """The gold document of an example.

    The entities of unannotated ranges, and of spans that do not fit the tokens, are unknown. Raises
    CorruptExample for a text that spaCy refuses, for overlapping spans, and for an example without any label
    that fits.
    """
    try:
        doc = make_doc(nlp, example.text)
    except ValueError as error:
        raise CorruptExample(f"spaCy rejects the text: {str(error)[:200]}") from error
    if isinstance(example, CorpusLine) and example.importance_weight != 1.0:
        set_sample_weight(doc, example.importance_weight)
    doc.cats = {label: 1.0 for label in (example.intent, example.sentiment) if label is not None}
    if example.entities is not None:
        _set_entities(doc, example.entities, example.unannotated)
        if example.tasks == ("entities",) and example.entities and not doc.ents:
            raise CorruptExample("no entity begins and ends with a token")
    return doc


def _set_entities(doc: Doc, entities: Sequence[EntitySpan], unannotated: Sequence[tuple[int, int]]) -> None:
    spans: list[Span] = []
    unknown = list(unannotated)
    for entity in entities:
        span = doc.char_span(entity.start, entity.end, label=entity.label)
        if span is None:
            unknown.append((entity.start, entity.end))
        else:
            spans.append(span)
    taken = {token for span in spans for token in range(span.start, span.end)}
    missing = [
        doc[token.i : token.i + 1]
        for token in (doc if unknown else ())
        if token.i not in taken
        and any(token.idx < end and start < token.idx + len(token) for start, end in unknown)
    ]
    try:
        doc.set_ents(spans, missing=missing, default="outside")
    except ValueError as error:
        raise CorruptExample(f"entities cannot be set: {error}") from error


def unfit_spans(doc: Doc, example: LabelledText) -> int:
    """The number of entities of the example that do not begin and end with a token of its document."""
    return sum(doc.char_span(span.start, span.end) is None for span in example.entities or ())


def read_examples(path: Path) -> Iterator[Line[CorpusLine]]:
    """The examples of a file of JSON lines; nothing if there is no file."""
    for line in read_json_lines(path) if path.exists() else ():
        yield line.parsed(corpus_line)


def read_docs(nlp: Language, path: Path, *, skipped: list[str]) -> Iterator[tuple[int, CorpusLine, Doc]]:
    """The usable examples of a file of JSON lines: number, from 0, example and gold document.

    The reasons of unusable lines go to `skipped`. The number of entities that do not fit is logged.
    """
    unfit = 0

    def with_doc(example: CorpusLine) -> tuple[CorpusLine, Doc]:
        require_text(example)
        return example, to_doc(nlp, example)

    for line in read_examples(path):
        read = line.parsed(with_doc)
        if read.value is None:
            skipped.append(f"{path.name} line {read.line}: {read.error}")
        else:
            example, doc = read.value
            unfit += unfit_spans(doc, example)
            yield read.line - 1, example, doc
    if unfit:
        logger.warning("%s: %d entities do not begin and end with a token: left out", path.name, unfit)


class CorpusDoc(NamedTuple):
    """The gold document of a line, from 0, and the shadows from which it is held out, one bit each."""

    line: int
    held_out: int
    doc: Doc


def corpus_docs(nlp: Language, path: Path, *, skipped: list[str]) -> list[CorpusDoc]:
    """The gold documents of a file of JSON lines."""
    docs = read_docs(nlp, path, skipped=skipped)
    return [CorpusDoc(number, line.held_out, doc) for number, line, doc in docs]


def docs_of_shadow(docs: Iterable[CorpusDoc], shadow: int | None) -> dict[int, Doc]:
    """The documents by line without those that are held out of a shadow."""
    return {one.line: one.doc for one in docs if shadow is None or not one.held_out >> shadow & 1}


def write_docs(path: Path, docs: Iterable[Doc]) -> None:
    """Write a DocBin that `spacy train` and `spacy evaluate` can read."""
    make_folder(path.parent)
    with open_private(path, "wb") as file:
        file.write(DocBin(docs=docs, store_user_data=False).to_bytes())


def read_docbin(file: CorpusFile) -> Iterator[Line[Any]]:
    """The gold documents of a DocBin: categories with the value 1.0, and annotated entities."""
    try:
        content = file.path.read_bytes()
        _check_size(file.path.name, content)
        for number, doc in enumerate(DocBin().from_bytes(content).get_docs(Vocab()), start=1):
            yield Line(number, doc).parsed(_values)
    except (zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ImportFormatError(f"{file.path.name!r} is no DocBin of spaCy: {error}") from error


def _check_size(name: str, content: bytes) -> None:
    """Raise ImportFormatError for a file that unpacks to more than `MAX_UNPACKED_BYTES`."""
    unpacking, size = zlib.decompressobj(), 0
    while content and not unpacking.eof:
        size += len(unpacking.decompress(content, PIECE_BYTES))
        content = unpacking.unconsumed_tail
        if size > MAX_UNPACKED_BYTES:
            raise ImportFormatError(f"{name!r} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes: split it")


def _values(doc: Doc) -> dict[str, Any]:
    chosen = [label for label, value in doc.cats.items() if value == 1.0]
    values: dict[str, Any] = {"text": doc.text, **categories(chosen)}
    if doc.has_annotation("ENT_IOB"):
        values["entities"] = [(span.start_char, span.end_char, span.label_) for span in doc.ents]
        values["unannotated"] = [
            (token.idx, token.idx + len(token)) for token in doc if not token.ent_iob and not token.is_space
        ]
    return values


def write_docbin(file: ExportFile, examples: Iterable[LabelledText]) -> int:
    """Write examples as a DocBin and return their number. Those that have no document are noted."""
    nlp, docs = file.tokenizer or spacy.blank(file.language), []
    for example in examples:
        try:
            doc = to_doc(nlp, example)
        except CorruptExample as error:
            file.note(f"examples were left out, because {error}")
            continue
        for _ in range(unfit_spans(doc, example)):
            file.note("entities that do not begin and end with a token of the pipeline")
        docs.append(doc)
    write_docs(file.path, docs)
    return len(docs)


def labelled_docs(
    nlp: Language, reading: ImportedLines[LabelledText], *, skipped: list[str], tasks: Sequence[Task] = TASKS
) -> Iterator[tuple[LabelledText, Doc]]:
    """The labelled texts of a file with their gold documents.

    Labels of other tasks than `tasks` are ignored. The reasons of unusable lines go to `skipped`.
    """
    ignored: dict[str, None] = dict.fromkeys(set(TASKS) - set(tasks))

    def with_doc(example: LabelledText) -> tuple[LabelledText, Doc]:
        used = example.model_copy(update=ignored) if ignored else example
        return used, to_doc(nlp, used)

    for line in reading:
        read = line.parsed(with_doc)
        if read.value is None:
            skipped.append(f"{reading.file.path.name} line {read.line}: {read.error}")
        else:
            yield read.value
