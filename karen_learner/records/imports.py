"""Reports of imports."""

from __future__ import annotations

from pathlib import Path

from karen_learner.records.base import Record


class SkippedLine(Record):
    """An unusable line of an imported file, and the reason. Lines count from 1."""

    line: int
    reason: str


class IngestReport(Record):
    """Stored turns and examples of an import. `skipped` lists the first 1,000 skipped lines."""

    path: Path
    turns: int = 0
    examples: int = 0
    duplicates: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()


class GoldReport(Record):
    """Results of adding labelled texts. Positions count from 1; each list holds the first 1,000.

    `added` are new texts and texts with changed labels, `merged` known ones. `entities_dropped` were added
    without their entities, because a span does not begin and end with a token.
    """

    added: int = 0
    merged: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()
    entities_dropped_count: int = 0
    entities_dropped: tuple[SkippedLine, ...] = ()
