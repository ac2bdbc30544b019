"""Labelled texts that stand in for users: read from files, and the corpus that is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS, LabelledText, Record, Task

KEYS = ("text", *TASKS)


class Corpus(Record):
    """What the users will say, and the texts by which the model is judged and never taught."""

    train: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]

    @property
    def labels(self) -> dict[Task, tuple[str, ...]]:
        """The labels of each task in the training part, in alphabetical order."""
        found: dict[Task, set[str]] = {task: set() for task in TASKS}
        for example in self.train:
            found["intent"] |= {example.intent} if example.intent is not None else set()
            found["sentiment"] |= {example.sentiment} if example.sentiment is not None else set()
            found["entities"] |= {span.label for span in example.entities or ()}
        return {task: tuple(sorted(labels)) for task, labels in found.items() if labels}


def read_corpus(train: Path, test: Path | None = None) -> Corpus:
    """The corpus of two files of JSON lines, or of a folder with `train.jsonl` and `test.jsonl`.

    Keys other than text, intent, sentiment and entities are ignored. Blocking. Raises InvalidInput
    naming the file and the line: a benchmark that leaves texts out measures something else.
    """
    if test is None:
        if not train.is_dir():
            raise InvalidInput(
                f"{train} is no folder: name one with train.jsonl and test.jsonl, or two files"
            )
        train, test = train / "train.jsonl", train / "test.jsonl"
    corpus = Corpus(train=_read(train), test=_read(test))
    if not corpus.labels or not any(example.tasks for example in corpus.test):
        raise InvalidInput(f"{train} and {test} need labels: nothing could be learned or judged")
    return corpus


def _read(path: Path) -> tuple[LabelledText, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the corpus {path}: {error}") from error
    found = tuple(_parse(line, path, number) for number, line in enumerate(lines, start=1) if line.strip())
    if not found:
        raise InvalidInput(f"the corpus {path} has no texts")
    return found


def _parse(line: str, path: Path, number: int) -> LabelledText:
    try:
        values: dict[str, Any] = dict(json.loads(line))
        labelled = LabelledText.model_validate({key: values[key] for key in KEYS if key in values})
    except ValidationError as error:
        raise InvalidInput(f"{path} line {number}: {error.errors()[0]['msg']}") from error
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path} line {number} is no JSON object: {error}") from error
    if not labelled.text.strip():
        raise InvalidInput(f"{path} line {number} has no text")
    return labelled


def shipped_corpus() -> Path:
    """The folder of the shipped corpus: `corpus/telecom` in a checkout, inside the package when installed.

    Raises InvalidInput when neither is there.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "seed" / "telecom", package.parent / "corpus" / "telecom"):
        if (folder / "train.jsonl").is_file():
            return folder
    raise InvalidInput("the shipped corpus is missing: install karen-learner again, or name a corpus")
