"""`karen_learner.Corpus.v1`: reader of JSON lines and DocBin files for `spacy train`.

spaCy's own reader takes DocBin files only, which need a conversion first.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
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
    path = Path(path)
    return partial(_examples, path, tasks) if path.suffix == ".jsonl" else Corpus(path)


def _examples(path: Path, tasks: Sequence[Task], nlp: Language) -> Iterator[Example]:
    """The examples of a file of JSON lines.

    Lines without labels of the tasks are left out. Unusable lines are left out and logged. Raises
    ImportFormatError for a missing file and for a file without usable labels.
    """
    if not path.is_file():
        raise ImportFormatError(f"there is no corpus at {path}")
    skipped: list[str] = []
    count = 0
    for _, line, doc in read_docs(nlp, path, skipped=skipped, tasks=tasks):
        if line.tasks:
            count += 1
            yield Example(nlp.make_doc(line.text), doc)
    for reason in skipped:
        logger.warning("skipped: %s", reason)
    if not count:
        raise ImportFormatError(f"no line of {path} has a label for {' or '.join(tasks)}")
