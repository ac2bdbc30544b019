"""The findings of the data checks as a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from karen_learner.cli.output import text
from karen_learner.cli.tables import FittingTable, facts
from karen_learner.records.data_reports import DataFinding, DataReport

SHOWN_OF_A_KIND = 10
KIND_NAMES = {
    "unusable": "unusable lines",
    "contradiction": "contradictions",
    "misaligned": "misaligned spans",
    "collision": "labels of two tasks",
    "leak": "test texts in training",
    "near_leak": "near-duplicates in test",
    "unknown_test_label": "untrained test labels",
    "similar_labels": "similar labels",
    "rare_label": "rare labels",
    "near_contradiction": "near-contradictions",
    "near_duplicate": "near-duplicates",
    "duplicate": "duplicates",
}


def data_report(report: DataReport) -> list[RenderableType]:
    """Counts, a table of findings with the first of each kind, and the notes."""
    labels = ", ".join(f"{len(counts)} of {task}" for task, counts in report.labels.items())
    head = {
        "texts": report.texts,
        "test texts": report.test_texts or None,
        "turns, not checked": report.turns or None,
        "labels": labels or "none",
        "errors": text(report.errors, "bold red" if report.errors else "bold green"),
        "warnings": text(report.warnings, "yellow" if report.warnings else "green"),
    }
    shown: list[RenderableType] = [facts(head)]
    rows = list(_rows(report))
    if rows:
        shown.append(FittingTable(rows, optional=["lines"], folded="finding"))
    return [*shown, *report.notes]


def _rows(report: DataReport) -> Iterator[dict[str, object]]:
    listed = dict.fromkeys(report.counts, 0)
    for one in report.findings:
        listed[one.kind] += 1
        if listed[one.kind] <= SHOWN_OF_A_KIND:
            yield _row(one, one.message)
        elif listed[one.kind] == SHOWN_OF_A_KIND + 1:
            rest = report.counts[one.kind] - SHOWN_OF_A_KIND
            yield _row(one, f"and {rest} more (--json lists the first 1,000)") | {"lines": None}


def _row(one: DataFinding, message: str) -> dict[str, object]:
    numbers = [*map(str, one.lines), *(f"test {line}" for line in one.test_lines)]
    return {
        "": text("error", "red") if one.is_error else text("warning", "yellow"),
        "kind": KIND_NAMES[one.kind],
        "lines": ", ".join(numbers[:4]) + (", ..." if len(numbers) > 4 else "") or None,
        "finding": message,
    }
