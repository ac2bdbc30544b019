"""Corpora of simulations: files of labelled texts, and the shipped corpus."""

from __future__ import annotations

from pathlib import Path

from karen_learner.corpora.lines import CorruptExample, require_json_lines
from karen_learner.corpora.parsing import labelled_text
from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS, LabelledText, Record, Task


class Corpus(Record):
    """Texts of the users, and test texts that are never trained on."""

    train: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]

    @property
    def labels(self) -> dict[Task, tuple[str, ...]]:
        """Sorted labels of each task in the training part."""
        found: dict[Task, set[str]] = {task: set() for task in TASKS}
        for example in self.train:
            found["intent"] |= {example.intent} if example.intent is not None else set()
            found["sentiment"] |= {example.sentiment} if example.sentiment is not None else set()
            found["entities"] |= {span.label for span in example.entities or ()}
        return {task: tuple(sorted(labels)) for task, labels in found.items() if labels}


def read_corpus(train: Path, test: Path | None = None) -> Corpus:
    """The corpus of two files of JSON lines, or of a folder with `train.jsonl` and `test.jsonl`.

    Blocking. Raises InvalidInput with the file and the line: a benchmark must not skip texts.
    """
    if test is None:
        if not train.is_dir():
            raise InvalidInput(
                f"{train} is not a folder: give a folder with train.jsonl and test.jsonl, or two files"
            )
        train, test = train / "train.jsonl", train / "test.jsonl"
    corpus = Corpus(train=_read(train), test=_read(test))
    if not corpus.labels or not any(example.tasks for example in corpus.test):
        raise InvalidInput(f"{train} and {test} have no labels: nothing to train on or to evaluate")
    return corpus


def _read(path: Path) -> tuple[LabelledText, ...]:
    found = []
    try:
        for number, value in require_json_lines(path):
            try:
                found.append(labelled_text(value))
            except CorruptExample as error:
                raise InvalidInput(f"{path} line {number}: {error}") from error
    except OSError as error:
        raise InvalidInput(f"cannot read the corpus {path}: {error}") from error
    if not found:
        raise InvalidInput(f"the corpus {path} has no texts")
    return tuple(found)


def shipped_corpus() -> Path:
    """The folder of the shipped corpus, in a checkout or in the installed package. Raises InvalidInput."""
    package = Path(__file__).parent.parent
    for folder in (package / "seed" / "telecom", package.parent / "corpus" / "telecom"):
        if (folder / "train.jsonl").is_file():
            return folder
    raise InvalidInput("the shipped corpus is missing: reinstall karen-learner, or give a corpus")
