"""What became of an imported file."""

from __future__ import annotations

from pathlib import Path

from karen_learner.records.base import Record


class SkippedLine(Record):
    """A line of an imported file that could not be used, and why. Lines count from 1."""

    line: int
    reason: str


class IngestReport(Record):
    """What an import kept and what it left out. `skipped` lists the first 1,000."""

    path: Path
    turns: int = 0
    examples: int = 0
    duplicates: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()


class GoldReport(Record):
    """What became of labelled texts. Positions count from 1; each list holds the first 1,000.

    `added` are new texts and those whose label was changed, `merged` those that were known already.
    `entities_dropped` were added without their entities, whose spans are not made of whole tokens.
    """

    added: int = 0
    merged: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()
    entities_dropped_count: int = 0
    entities_dropped: tuple[SkippedLine, ...] = ()
