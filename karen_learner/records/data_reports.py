"""Reports about files of labelled texts: findings of the data checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from karen_learner.records.base import Record, Task

FindingKind = Literal[
    "unusable",
    "contradiction",
    "misaligned",
    "collision",
    "leak",
    "near_leak",
    "unknown_test_label",
    "similar_labels",
    "rare_label",
    "near_contradiction",
    "near_duplicate",
    "duplicate",
]
"""Kinds of findings, the most severe first."""
ERRORS: frozenset[FindingKind] = frozenset({"unusable", "contradiction", "misaligned", "collision", "leak"})
"""Findings that an import or an evaluation cannot use. All others are warnings."""


class DataFinding(Record):
    """A problem of a data set. `lines` are those of the file, `test_lines` those of the test file."""

    kind: FindingKind
    message: str
    lines: tuple[int, ...] = ()
    test_lines: tuple[int, ...] = ()

    @property
    def is_error(self) -> bool:
        return self.kind in ERRORS


class DataReport(Record):
    """The findings in a file, with the first 1,000 of each kind, the most severe first.

    `labels` counts the texts of each label. `counts` are the numbers of findings by kind.
    """

    path: Path
    test: Path | None = None
    texts: int
    test_texts: int = 0
    turns: int = 0
    labels: Mapping[Task, Mapping[str, int]]
    errors: int
    warnings: int
    counts: Mapping[FindingKind, int]
    findings: tuple[DataFinding, ...]
    notes: tuple[str, ...] = ()
