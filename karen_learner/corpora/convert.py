"""Conversion of JSON lines to the files of `spacy train`: DocBin corpora and labels of pipes."""

from __future__ import annotations

from pathlib import Path

import spacy
import srsly
from spacy.tokens import Doc

from karen_learner.corpora.docbin import read_docs, write_docs
from karen_learner.errors import ImportFormatError
from karen_learner.records import CATEGORY_TASKS, Record, Task

DEV_EVERY = 10


class Conversion(Record):
    """The number of documents, and the reasons of skipped lines."""

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

    `labels` is a folder for the label files of both text categorizers (`intent.json`, `sentiment.json`).
    `spacy train` reads them through `spacy.read_labels.v1`. Raises ImportFormatError.
    """
    if not source.is_file():
        raise ImportFormatError(f"there is no corpus at {source}")
    docs: list[Doc] = []
    skipped: list[str] = []
    found: dict[Task, set[str]] = {task: set() for task in CATEGORY_TASKS}
    for _, example, doc in read_docs(spacy.blank(language), source, skipped=skipped):
        docs.append(doc)
        for task, known in found.items():
            known |= {getattr(example, task)} - {None}
    write_docs(target, (doc for position, doc in enumerate(docs) if dev is None or position % DEV_EVERY))
    if dev is not None:
        write_docs(dev, docs[::DEV_EVERY])
    if labels is not None:
        labels.mkdir(parents=True, exist_ok=True)
        for task, known in found.items():
            srsly.write_json(labels / f"{task}.json", sorted(known))
    return Conversion(documents=len(docs), skipped=tuple(skipped))
