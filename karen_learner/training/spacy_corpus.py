"""`karen_learner.Corpus.v1`: reader of JSON lines and DocBin files for `spacy train`.

spaCy's own reader takes DocBin files only, which need a conversion first.
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
    """The reader of a file of JSON lines (`.jsonl`), or of anything that `spacy.Corpus.v1` reads.

    tasks: the labels to read from JSON lines, of "intent", "sentiment" and "entities". Name one task to
        train a text categorizer without given labels, because it uses every category.
    """
    return JsonlCorpus(path, tasks) if Path(path).suffix == ".jsonl" else Corpus(path)


class JsonlCorpus:
    """The examples of a file of JSON lines, read at each call.

    Lines without labels of the tasks are left out. Unusable lines are left out and logged. Raises
    ImportFormatError for a missing file and for a file without usable labels.
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
            logger.warning("skipped: %s", reason)
        if not count:
            raise ImportFormatError(f"no line of {self._path} has a label for {' or '.join(self._tasks)}")
