"""`karen_learner.Corpus.v1`: a corpus for `spacy train` that needs no conversion first.

spaCy's own reader takes DocBin files. This one takes those and JSON lines, the form in which a corpus is
written by hand and exported.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from spacy.language import Language
from spacy.training import Corpus, Example

from karen_learner.corpora.docbin import read_docs
from karen_learner.errors import ImportFormatError
from karen_learner.records import TASKS, Task

logger = logging.getLogger(__name__)

Reader = Callable[[Language], Iterable[Example]]


def corpus_reader(path: str | Path, tasks: Sequence[Task] = TASKS) -> Reader:
    """What reads a corpus: a file of JSON lines (`.jsonl`), or anything that `spacy.Corpus.v1` reads.

    tasks: what is read of JSON lines, of "intent", "sentiment" and "entities". Name the one that a text
        categorizer is trained for, unless its labels are given: it takes every category for its own.
    """
    return JsonlCorpus(path, tasks) if Path(path).suffix == ".jsonl" else Corpus(path)


class JsonlCorpus:
    """The examples of a file of JSON lines, read anew whenever they are asked for.

    Lines that say nothing of the tasks are left out. Lines that cannot be used are, too, and that is logged.
    Raises ImportFormatError if there is no file, or nothing in it to be learned.
    """

    def __init__(self, path: str | Path, tasks: Sequence[Task] = TASKS) -> None:
        self._path = Path(path)
        self._tasks = tasks

    def __call__(self, nlp: Language) -> Iterator[Example]:
        if not self._path.is_file():
            raise ImportFormatError(f"there is no corpus at {self._path}")
        skipped: list[str] = []
        count = 0
        for _, line, doc in read_docs(nlp, self._path, skipped=skipped, tasks=self._tasks):
            if line.tasks:
                count += 1
                yield Example(nlp.make_doc(line.text), doc)
        for reason in skipped:
            logger.warning("left out: %s", reason)
        if not count:
            raise ImportFormatError(f"no line of {self._path} has a label for {' or '.join(self._tasks)}")
