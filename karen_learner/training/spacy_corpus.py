"""`karen_learner.Corpus.v1`: reader of labelled texts in any format for `spacy train`.

spaCy's own reader takes DocBin files only, which need a conversion first.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from spacy.language import Language
from spacy.training import Corpus, Example

from karen_learner.components.documents import make_doc
from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.docbin import labelled_docs, unfit_spans
from karen_learner.corpora.importers import iter_labelled
from karen_learner.errors import ImportFormatError
from karen_learner.records import TASKS, Task
from karen_learner.records.offsets import OffsetUnit

logger = logging.getLogger(__name__)

Reader = Callable[[Language], Iterable[Example]]


def corpus_reader(
    path: str | Path,
    tasks: Sequence[Task] = TASKS,
    format: str | None = None,
    keys: Mapping[str, str] | None = None,
    encoding: str | None = None,
    offsets: OffsetUnit = "characters",
) -> Reader:
    """The reader of any file that an importer reads, or of a DocBin or folder as `spacy.Corpus.v1` reads it.

    tasks: the labels to read, of "intent", "sentiment" and "entities". Name one task to train a text
        categorizer without given labels, because it uses every category. DocBin files keep all.
    format, keys, encoding, offsets: those of `CorpusFile`.
    """
    path = Path(path)
    if format is None and (path.suffix == ".spacy" or path.is_dir()):
        return Corpus(path)
    return partial(
        _examples, CorpusFile(path, format=format, keys=keys or {}, encoding=encoding, offsets=offsets), tasks
    )


def _examples(file: CorpusFile, tasks: Sequence[Task], nlp: Language) -> Iterator[Example]:
    """The examples of a file.

    Lines without labels of the tasks are left out. Unusable lines, and entities that do not fit the tokens,
    are left out and logged. Raises
    ImportFormatError for a missing file and for a file without usable labels.
    """
    reading = iter_labelled(file)
    skipped: list[str] = []
    count = unfit = 0
    for labelled, doc in labelled_docs(nlp, reading, skipped=skipped, tasks=tasks):
        if labelled.tasks:
            count += 1
            unfit += unfit_spans(doc, labelled)
            yield Example(make_doc(nlp, labelled.text), doc)
    for reason in (*skipped, *reading.notes):
        logger.warning("%s", reason)
    if unfit:
        logger.warning("%s: %d entities do not begin and end with a token: left out", file.path.name, unfit)
    if not count:
        raise ImportFormatError(f"no line of {file.path} has a label for {' or '.join(tasks)}")
