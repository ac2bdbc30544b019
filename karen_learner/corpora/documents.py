"""Examples on disk: JSON lines on their way to the worker, DocBin where spaCy reads them.

A category that is unknown is absent from `doc.cats`; entities that are unknown are left missing
(`ent_iob` 0), which is not the same as none. Ids and people stay in the store.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path

from asyncio_extras import call_in_executor
from pydantic import Field, ValidationError
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from karen_learner.components.online.sample_weights import MAX_SAMPLE_WEIGHT, set_sample_weight
from karen_learner.records import TASKS, EntitySpan, LabelledText, Task

PAGE = 500


class CorpusLine(LabelledText):
    """An example on its way to the worker. `stands_for`: how many it was drawn to stand for."""

    stands_for: float = Field(default=1.0, gt=0.0, le=MAX_SAMPLE_WEIGHT)


def to_line(example: LabelledText, stands_for: float = 1.0) -> str:
    """An example as a line of a corpus; unknown labels are left out."""
    line: dict[str, object] = {"text": example.text}
    if stands_for != 1.0:
        line["stands_for"] = stands_for
    if example.intent is not None:
        line["intent"] = example.intent
    if example.sentiment is not None:
        line["sentiment"] = example.sentiment
    if example.entities is not None:
        line["entities"] = [[span.start, span.end, span.label] for span in example.entities]
    return json.dumps(line, ensure_ascii=False)


async def write_lines(
    path: Path,
    examples: AsyncIterator[LabelledText] | Iterable[LabelledText],
    *,
    stands_for: Iterable[float] = (),
) -> int:
    """Stream examples into a file of JSON lines; returns how many there were.

    `stands_for`, in the order of the examples; those beyond its end stand for themselves.
    """
    count, counts = 0, iter(stands_for)
    page: list[str] = []
    await call_in_executor(_start_file, path)
    async for example in _each(examples):
        page.append(to_line(example, next(counts, 1.0)))
        count += 1
        if len(page) == PAGE:
            await call_in_executor(_append, path, page)
            page = []
    await call_in_executor(_append, path, page)
    return count


async def _each(
    examples: AsyncIterator[LabelledText] | Iterable[LabelledText],
) -> AsyncIterator[LabelledText]:
    if isinstance(examples, AsyncIterator):
        async for example in examples:
            yield example
    else:
        for example in examples:
            yield example


def _start_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def _append(path: Path, lines: list[str]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


class CorruptExample(ValueError):
    """An example that cannot be made into a document."""


def to_doc(nlp: Language, example: LabelledText) -> Doc:
    """A gold document. Raises CorruptExample if spaCy does not take the text, or where a span is not made of
    whole tokens."""
    try:
        doc = nlp.make_doc(example.text)
    except ValueError as error:
        raise CorruptExample(f"spaCy does not take the text: {str(error)[:200]}") from error
    if isinstance(example, CorpusLine) and example.stands_for != 1.0:
        set_sample_weight(doc, example.stands_for)
    doc.cats = {label: 1.0 for label in (example.intent, example.sentiment) if label is not None}
    if example.entities is not None:
        _set_entities(doc, example.entities)
    return doc


def _set_entities(doc: Doc, entities: tuple[EntitySpan, ...]) -> None:
    found = [doc.char_span(span.start, span.end, label=span.label) for span in entities]
    spans = [span for span in found if span is not None]
    if len(spans) < len(found):
        raise CorruptExample("an entity does not begin and end with a token")
    try:
        doc.set_ents(spans, default="outside")
    except ValueError as error:
        raise CorruptExample(f"entities cannot be set: {error}") from error


def read_lines(path: Path) -> Iterator[CorpusLine | CorruptExample]:
    """The examples of a file of JSON lines; a line that is none comes out as CorruptExample."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield CorpusLine.model_validate_json(line)
            except ValidationError as error:
                yield CorruptExample(error.errors()[0]["msg"])


def convert(nlp: Language, path: Path, *, skipped: list[str]) -> list[Doc]:
    """Read `<name>.jsonl`, write `<name>.spacy` beside it, and return the documents.

    What cannot be used is left out and told in `skipped`.
    """
    docs = list(read_docs(nlp, path, skipped=skipped).values())
    write_docs(path.with_suffix(".spacy"), docs)
    return docs


def read_docs(nlp: Language, path: Path, *, skipped: list[str]) -> dict[int, Doc]:
    """The documents of a file of JSON lines by the number of their line, from 0; none if there is no file.

    What cannot be used is left out and told in `skipped`.
    """
    return {number: doc for number, _, doc in read_usable(nlp, path, skipped=skipped)}


def read_usable(
    nlp: Language,
    path: Path,
    *,
    skipped: list[str],
    tasks: Sequence[Task] = TASKS,
) -> Iterator[tuple[int, CorpusLine, Doc]]:
    """The lines that can be used, each with its number, from 0, and its gold document; see `read_docs`.

    What lines say of other tasks than these is not read.
    """
    unread: dict[str, None] = dict.fromkeys(set(TASKS) - set(tasks))
    for number, line in enumerate(read_lines(path)):
        try:
            if isinstance(line, CorruptExample):
                raise line
            wanted = line.model_copy(update=unread) if unread else line
            doc = to_doc(nlp, wanted)
        except CorruptExample as error:
            skipped.append(f"{path.name} line {number + 1}: {error}")
        else:
            yield number, wanted, doc


def write_docs(path: Path, docs: Iterable[Doc]) -> None:
    """Write a DocBin that `spacy train` and `spacy evaluate` can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs, store_user_data=False).to_disk(path)
