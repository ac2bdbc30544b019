"""Examples as spaCy documents, and DocBin files.

An unknown category is missing from `doc.cats`. Unknown entities are missing annotation (`ent_iob` 0),
which differs from no entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from karen_learner.components.online.sample_weights import set_sample_weight
from karen_learner.corpora.lines import read_json_lines
from karen_learner.corpora.parsing import (
    CorpusLine,
    CorruptExample,
    ImportedLine,
    corpus_line,
    imported_line,
    require_text,
)
from karen_learner.errors import ImportFormatError
from karen_learner.records import TASKS, EntitySpan, LabelledText, Task

SENTIMENTS = frozenset({"negative", "neutral", "positive"})
"""The categories of a DocBin that are sentiments; all others are intents."""


def to_doc(nlp: Language, example: LabelledText) -> Doc:
    """The gold document of an example.

    Raises CorruptExample for a text that spaCy refuses and for a span that is not made of whole tokens.
    """
    try:
        doc = nlp.make_doc(example.text)
    except ValueError as error:
        raise CorruptExample(f"spaCy rejects the text: {str(error)[:200]}") from error
    if isinstance(example, CorpusLine) and example.importance_weight != 1.0:
        set_sample_weight(doc, example.importance_weight)
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


def read_examples(path: Path) -> Iterator[tuple[int, CorpusLine | CorruptExample]]:
    """The numbers, from 0, and the examples of a file of JSON lines; nothing if there is no file."""
    for line in read_json_lines(path) if path.exists() else ():
        try:
            if line.error is not None:
                raise CorruptExample(line.error)
            yield line.number - 1, corpus_line(line.value)
        except CorruptExample as error:
            yield line.number - 1, error


def read_docs(
    nlp: Language, path: Path, *, skipped: list[str], tasks: Sequence[Task] = TASKS
) -> Iterator[tuple[int, CorpusLine, Doc]]:
    """The usable examples of a file of JSON lines: number, from 0, example and gold document.

    Labels of other tasks than `tasks` are ignored. The reasons of unusable lines go to `skipped`.
    """
    ignored: dict[str, None] = dict.fromkeys(set(TASKS) - set(tasks))
    for number, line in read_examples(path):
        try:
            if isinstance(line, CorruptExample):
                raise line
            require_text(line)
            example = line.model_copy(update=ignored) if ignored else line
            doc = to_doc(nlp, example)
        except CorruptExample as error:
            skipped.append(f"{path.name} line {number + 1}: {error}")
        else:
            yield number, example, doc


def numbered_docs(nlp: Language, path: Path, *, skipped: list[str]) -> dict[int, Doc]:
    """The gold documents of a file of JSON lines by line number, from 0."""
    return {number: doc for number, _, doc in read_docs(nlp, path, skipped=skipped)}


def lines_to_docbin(nlp: Language, path: Path, *, skipped: list[str]) -> list[Doc]:
    """Write `<name>.spacy` next to `<name>.jsonl` and return its documents."""
    docs = [doc for _, _, doc in read_docs(nlp, path, skipped=skipped)]
    write_docs(path.with_suffix(".spacy"), docs)
    return docs


def write_docs(path: Path, docs: Iterable[Doc]) -> None:
    """Write a DocBin that `spacy train` and `spacy evaluate` can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs, store_user_data=False).to_disk(path)


def read_docbin(path: Path) -> Iterator[ImportedLine]:
    """The gold documents of a DocBin: categories with the value 1.0, and annotated entities."""
    try:
        for number, doc in enumerate(DocBin().from_disk(path).get_docs(Vocab()), start=1):
            yield _from_doc(number, doc)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ImportFormatError(f"{path.name!r} is no DocBin of spaCy: {error}") from error


def _from_doc(number: int, doc: Doc) -> ImportedLine:
    chosen = [label for label, value in doc.cats.items() if value == 1.0]
    intents = [label for label in chosen if label not in SENTIMENTS]
    sentiments = [label for label in chosen if label in SENTIMENTS]
    if len(intents) > 1 or len(sentiments) > 1:
        return ImportedLine(
            number, error=f"has several categories of one task: {', '.join(map(repr, chosen))}"
        )
    values: dict[str, Any] = {
        "text": doc.text,
        "intent": intents[0] if intents else None,
        "sentiment": sentiments[0] if sentiments else None,
    }
    if doc.has_annotation("ENT_IOB"):
        values["entities"] = [(span.start_char, span.end_char, span.label_) for span in doc.ents]
    return imported_line(number, values)
