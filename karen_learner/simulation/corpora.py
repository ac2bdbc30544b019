"""Corpora of simulations: files of labelled texts, and the shipped corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.importers import CorpusSource, iter_labelled, known_suffixes, required
from karen_learner.curation.data_checks import Leaks, leaks, numbered
from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS, LabelledText, Record, Task


class Corpus(Record):
    """Texts of the users, and test texts that are never trained on. `notes` are those of the readers."""

    train: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]
    notes: tuple[str, ...] = ()

    def leaks(self) -> Leaks:
        """Test texts that are also training texts, and labels that no training text has."""
        return leaks(numbered(self.train), numbered(self.test))

    @property
    def labels(self) -> dict[Task, tuple[str, ...]]:
        """Sorted labels of each task in the training part."""
        found: dict[Task, set[str]] = {task: set() for task in TASKS}
        for example in self.train:
            found["intent"] |= {example.intent} if example.intent is not None else set()
            found["sentiment"] |= {example.sentiment} if example.sentiment is not None else set()
            found["entities"] |= {span.label for span in example.entities or ()}
        return {task: tuple(sorted(labels)) for task, labels in found.items() if labels}


def read_corpus(train: CorpusSource, test: CorpusSource | None = None) -> Corpus:
    """The corpus of two files, or of a folder with files such as `train.jsonl` and `test.jsonl`.

    Blocking. Raises InvalidInput with the file and the line: a benchmark must not skip texts.
    """
    first = CorpusFile.of(train)
    if test is None:
        if not first.path.is_dir():
            raise InvalidInput(
                f"{first.path} is not a folder: give a folder with train.jsonl and test.jsonl, or two files"
            )
        first, second = (_part(first, name) for name in ("train", "test"))
    else:
        second = CorpusFile.of(test)
    texts, notes = zip(*map(_read, (first, second)), strict=True)
    corpus = Corpus(train=texts[0], test=texts[1], notes=[*notes[0], *notes[1]])
    if not corpus.labels or not any(example.tasks for example in corpus.test):
        raise InvalidInput(
            f"{first.path} and {second.path} have no labels: nothing to train on or to evaluate"
        )
    return corpus


def _part(folder: CorpusFile, name: str) -> CorpusFile:
    """The file of a folder with this name and a suffix that an importer knows; `.jsonl` if there is none."""
    default = folder.path / f"{name}.jsonl"
    known = known_suffixes()
    others = sorted(path for path in folder.path.glob(f"{name}.*") if CorpusFile(path).suffix in known)
    return replace(folder, path=others[0] if others and not default.is_file() else default)


def _read(file: CorpusFile) -> tuple[tuple[LabelledText, ...], tuple[str, ...]]:
    """The texts of a file, and the notes of its reader."""
    if not file.path.is_file():
        raise InvalidInput(f"cannot read the corpus {file.path}: there is no such file")
    reading = iter_labelled(file, unlabelled=True)
    found = required(reading)
    if not found:
        raise InvalidInput(f"the corpus {file.path} has no texts")
    return tuple(found), tuple(f"{file.path.name}: {note}" for note in reading.notes)


def shipped_corpus() -> Path:
    """The folder of the shipped corpus, in a checkout or in the installed package. Raises InvalidInput."""
    package = Path(__file__).parent.parent
    for folder in (package / "seed" / "telecom", package.parent / "corpus" / "telecom"):
        if (folder / "train.jsonl").is_file():
            return folder
    raise InvalidInput("the shipped corpus is missing: reinstall karen-learner, or give a corpus")
