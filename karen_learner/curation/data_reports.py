"""Reports of the data checks for a file, alone or beside the stored gold of a tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from karen_learner.corpora.importers import CorpusSource, iter_records
from karen_learner.corpora.parsing import TurnInput
from karen_learner.curation.alignment import TokenAligner
from karen_learner.curation.data_checks import LabelCounts, NumberedText, Texts, findings, label_counts
from karen_learner.errors import InvalidInput
from karen_learner.records import LabelledText
from karen_learner.records.data_reports import DataFinding, DataReport, FindingKind

RARE_BELOW = 5
"""A label with fewer texts is rare."""
MAX_LISTED = 1000
"""Maximum number of findings of each kind in a report."""
KINDS: tuple[FindingKind, ...] = get_args(FindingKind)


@dataclass(frozen=True)
class LabelledFile:
    """Labelled texts and unusable lines of a file, the number of its turns, and the notes of its reader."""

    path: Path
    texts: list[NumberedText]
    unusable: list[DataFinding]
    turns: int
    notes: tuple[str, ...]


def read_labelled_file(source: CorpusSource, *, is_test: bool = False) -> LabelledFile:
    """The labelled texts of a file. Blocking. Raises ImportFormatError, and InvalidInput without any text."""
    reading = iter_records(source)
    texts, unusable, turns = [], [], 0
    for line in reading:
        if isinstance(line.value, LabelledText):
            texts.append(NumberedText(line.line, line.value))
        elif isinstance(line.value, TurnInput):
            turns += 1
        else:
            where = {"test_lines": (line.line,)} if is_test else {"lines": (line.line,)}
            unusable.append(DataFinding(kind="unusable", message=line.error or "the line is empty", **where))
    if not texts:
        why = f": {unusable[0].message}" if unusable else ""
        beside = f", but {turns} turns, which are not checked" if turns else why
        raise InvalidInput(f"{reading.file.path} has no usable labelled text{beside}")
    notes = tuple(f"{reading.file.path.name}: {note}" for note in reading.notes)
    return LabelledFile(reading.file.path, texts, unusable, turns, notes)


def data_report(
    file: LabelledFile,
    test: LabelledFile | None = None,
    *,
    aligner: TokenAligner,
    stored: Mapping[str, Sequence[LabelledText]] | None = None,
    known_labels: LabelCounts | None = None,
    rare_below: int = RARE_BELOW,
) -> DataReport:
    """The findings in a file and its test file; see `findings`."""
    tested: Texts = test.texts if test else ()
    found = [*file.unusable, *(test.unusable if test else ())]
    found += findings(
        file.texts,
        test=tested,
        aligner=aligner,
        stored=stored,
        known_labels=known_labels,
        rare_below=rare_below,
    )
    counts = Counter(one.kind for one in found)
    by_kind = {kind: [one for one in found if one.kind == kind] for kind in KINDS if counts[kind]}
    return DataReport(
        path=file.path,
        test=test.path if test else None,
        texts=len(file.texts),
        test_texts=len(tested),
        turns=file.turns,
        labels=label_counts(file.texts),
        errors=sum(one.is_error for one in found),
        warnings=sum(not one.is_error for one in found),
        counts={kind: len(several) for kind, several in by_kind.items()},
        findings=tuple(one for several in by_kind.values() for one in several[:MAX_LISTED]),
        notes=(*file.notes, *(test.notes if test else ())),
    )
