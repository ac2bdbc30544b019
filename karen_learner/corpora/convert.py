"""A corpus of JSON lines as spaCy wants it: DocBin files, and the labels of each pipe."""

from __future__ import annotations

from pathlib import Path

import spacy
import srsly
from spacy.tokens import Doc

from karen_learner.corpora.documents import read_usable, write_docs
from karen_learner.errors import ImportFormatError
from karen_learner.records import Record, Task

DEV_EVERY = 10
LABEL_FILES: dict[Task, str] = {"intent": "intent.json", "sentiment": "sentiment.json"}


class Conversion(Record):
    """How many documents were written, and why lines were left out."""

    documents: int
    skipped: tuple[str, ...]


def convert_corpus(
    source: Path,
    target: Path,
    *,
    language: str = "en",
    labels: Path | None = None,
    dev: Path | None = None,
) -> Conversion:
    """Write `source` (.jsonl) as the DocBin `target`; with `dev`, every tenth document goes there.

    With `labels`, a label file for each text categorizer (`intent.json`, `sentiment.json`) is written
    into that folder: `spacy train` reads them through `spacy.read_labels.v1`, and they tell each pipe
    which categories are its own. Raises ImportFormatError.
    """
    if not source.is_file():
        raise ImportFormatError(f"there is no corpus at {source}")
    nlp = spacy.blank(language)
    docs: list[Doc] = []
    skipped: list[str] = []
    found: dict[Task, set[str]] = {"intent": set(), "sentiment": set()}
    for _, example, doc in read_usable(nlp, source, skipped=skipped):
        docs.append(doc)
        found["intent"] |= {example.intent} if example.intent else set()
        found["sentiment"] |= {example.sentiment} if example.sentiment else set()
    write_docs(target, (doc for position, doc in enumerate(docs) if dev is None or position % DEV_EVERY))
    if dev is not None:
        write_docs(dev, docs[::DEV_EVERY])
    if labels is not None:
        _write_labels(labels, found)
    return Conversion(documents=len(docs), skipped=tuple(skipped))


def _write_labels(folder: Path, found: dict[Task, set[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for task, labels in found.items():
        srsly.write_json(folder / LABEL_FILES[task], sorted(labels))
