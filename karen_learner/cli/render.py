"""Records as tables and paragraphs. All foreign text is escaped."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from karen_learner.cli.output import escape, shortened

if TYPE_CHECKING:
    from karen_learner.records import (
        Analysis,
        IngestReport,
        LearningMetrics,
        LearningPlan,
        ModelVersion,
        TenantStatus,
    )

STATUS_STYLES = {
    "deployed": "bold green",
    "rejected": "bold yellow",
    "skipped": "bold cyan",
    "failed": "bold red",
    "rolled_back": "bold magenta",
}
SHOWN_LINES = 20
TEXT_CHARS = 72
FOLDED_WIDTH = 12
"""Least width of a column that may fold."""


def text(value: object, style: str = "") -> Text:
    """A value as escaped text without markup."""
    return Text("" if value is None else escape(str(value)), style=style)


def table(*columns: str, title: str = "", numbers: Iterable[str] = ()) -> Table:
    """An empty table. The columns in `numbers` are right-aligned."""
    right = set(numbers)
    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def row(to: Table, *cells: object) -> None:
    """Add a row of escaped cells. None is a dash."""
    to.add_row(*map(_cell, cells))


def _cell(value: object) -> Text:
    return value if isinstance(value, Text) else text("-" if value is None else value)


class FittingTable:
    """A table of mappings. Columns without values are omitted.

    A table that is too wide for the terminal loses columns of `optional`, in this order. The column `folded`
    may fold.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, object]],
        *,
        numbers: Iterable[str] = (),
        optional: Iterable[str] = (),
        folded: str = "",
    ) -> None:
        names = [name for name in rows[0] if any(row[name] is not None for row in rows)] if rows else []
        self._columns = {name: [_cell(row[name]) for row in rows] for name in names}
        self._numbers = set(numbers)
        self._optional = [name for name in optional if name in self._columns]
        self._folded = folded

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        columns, optional = dict(self._columns), list(self._optional)
        while optional and sum(self._width(name) + 3 for name in columns) > options.max_width + 1:
            del columns[optional.pop(0)]
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            made.add_column(
                name,
                justify="right" if name in self._numbers else "left",
                overflow="fold",
                no_wrap=name != self._folded,
            )
        for cells in zip(*columns.values(), strict=True):
            made.add_row(*cells)
        yield made

    def _width(self, name: str) -> int:
        longest = max(cell_len(cell) for cell in (name, *(cell.plain for cell in self._columns[name])))
        return min(longest, FOLDED_WIDTH) if name == self._folded else longest


def facts(pairs: Iterable[tuple[str, object]], *, title: str = "") -> Table:
    """Names and values, one pair a line. Values of None are omitted."""
    made = Table(title=title or None, title_justify="left", box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            made.add_row(name, value if isinstance(value, Text) else text(value))
    return made


def score(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def utc_text(value: datetime | None) -> str | None:
    """Time in UTC with seconds."""
    return None if value is None else f"{value:%Y-%m-%d %H:%M:%S}Z"


def command_line(home: Path, *words: str) -> str:
    """A command line, quoted for a shell."""
    at = () if home == Path() else ("--home", str(home))
    return shlex.join(["karen-learner", *at, *words])


def status(tenant: TenantStatus) -> list[RenderableType]:
    """Champion, counts, last cycle and advice of a tenant."""
    champion, counts = tenant.champion, tenant.counts
    states = ", ".join(f"{count} {state}" for state, count in counts.examples.items() if count)
    running = tenant.running_cycle
    last = tenant.last_cycle
    lines: list[tuple[str, object]] = [
        ("tenant", text(tenant.tenant_id, "bold")),
        ("live model", champion.version if champion else "none; the rule-based fallback answers"),
        ("deployed", utc_text(champion.created_at) if champion else None),
        ("scores", _scores(champion) if champion else None),
        ("turns", f"{counts.turns} ({counts.with_feedback} with feedback, {counts.corrections} corrected)"),
        ("awaiting curation", counts.awaiting_curation),
        ("examples", f"{states or 'none'}; {counts.holdout} in the holdout"),
        ("degraded answers", counts.degraded or None),
        ("cycles", counts.cycles),
        ("running", f"{running.cycle_id}: {running.stage}" if running else None),
        ("last cycle", text(f"{last.status}, {utc_text(last.started_at)}") if last else None),
        ("next step", text(tenant.advice, "bold")),
    ]
    return [facts(lines), *_labels(tenant)]


def _scores(version: ModelVersion) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in version.scores.items()) or "none"


def _labels(tenant: TenantStatus) -> list[RenderableType]:
    if not any(tenant.labels.values()):
        return []
    made = table("task", "label", "examples", title="Labels", numbers=["examples"])
    for task, labels in tenant.labels.items():
        for label, count in sorted(labels.items()):
            row(made, task, label, count)
    return [Text(), made]


def tenants(all_of_them: Sequence[TenantStatus], metrics: LearningMetrics) -> list[RenderableType]:
    """One row per tenant, with counts only."""
    if not all_of_them:
        return [text("no tenants yet: `karen-learner bootstrap TENANT FILE` adds one")]
    rows = [_tenant_row(tenant) for tenant in all_of_them]
    numbers = ["accuracy", "turns", "feedback", "pending", "holdout", "cycles"]
    optional = ["holdout", "feedback", "cycles", "accuracy", "turns"]
    return [FittingTable(rows, numbers=numbers, optional=optional, folded="tenant"), facts(_tallies(metrics))]


def _tenant_row(tenant: TenantStatus) -> dict[str, object]:
    champion, counts, last = tenant.champion, tenant.counts, tenant.last_cycle
    return {
        "tenant": tenant.tenant_id,
        "live model": champion.version if champion else None,
        "accuracy": score(champion.scores.get("accuracy")) if champion else None,
        "turns": counts.turns,
        "feedback": counts.with_feedback,
        "pending": counts.pending_train + counts.awaiting_curation,
        "holdout": counts.holdout,
        "cycles": counts.cycles,
        "last": text(last.status, STATUS_STYLES[last.status]) if last else None,
        "now": tenant.running_cycle.stage if tenant.running_cycle else _readiness(tenant),
    }


def _readiness(tenant: TenantStatus) -> str:
    if tenant.champion is None:
        return "bootstrap needed"
    return "ready to learn" if tenant.ready_to_learn else "collecting"


def _tallies(metrics: LearningMetrics) -> list[tuple[str, object]]:
    return [
        ("tenants", metrics.tenants),
        ("turns", metrics.turns),
        (
            "cycles",
            f"{metrics.total_cycles} ({metrics.successful_cycles} deployed, "
            f"{metrics.rejected_cycles} rejected, {metrics.skipped_cycles} skipped, "
            f"{metrics.failed_cycles} failed)",
        ),
        ("mean training time", f"{metrics.average_training_time:.1f} s"),
    ]


def versions(found: Sequence[ModelVersion], champion: str | None) -> RenderableType:
    """Versions, newest first, with marks for live and removed ones."""
    rows = [_version_row(version, live=version.version == champion) for version in found]
    return FittingTable(rows, optional=["backup", "parent", "entities", "sentiment"], folded="backup")


def _version_row(version: ModelVersion, *, live: bool) -> dict[str, object]:
    removed = text("removed", "dim") if version.removed else ""
    scores = version.scores
    return {
        "": text("live", "bold green") if live else removed,
        "version": version.version,
        "created": utc_text(version.created_at),
        "parent": version.parent,
        "accuracy": score(scores.get("accuracy")),
        "intent": score(scores.get("intent_accuracy")),
        "sentiment": score(scores.get("sentiment_accuracy")),
        "entities": score(scores.get("entity_accuracy")),
        "backup": None if version.removed else version.backup_path,
    }


def ingest_report(report: IngestReport) -> list[RenderableType]:
    """Imported counts, and the first skipped lines."""
    kept = f"{report.turns} turns, {report.examples} new examples, {report.duplicates} duplicates"
    shown: list[RenderableType] = [facts([("imported", kept), ("skipped", report.skipped_count or None)])]
    if report.skipped:
        made = table("line", "reason", numbers=["line"])
        for line in report.skipped[:SHOWN_LINES]:
            row(made, line.line, line.reason)
        shown.append(made)
    if report.skipped_count > SHOWN_LINES:
        shown.append(text(f"and {report.skipped_count - SHOWN_LINES} more (--json lists the first 1,000)"))
    return shown


def plan(planned: LearningPlan) -> list[RenderableType]:
    """The plan of a cycle."""
    verdict = "would run" if planned.would_run else "would be skipped"
    curation = planned.curation
    decided = (
        f"{curation.turns} turns: {curation.accepted} accepted, {curation.merged} merged, "
        f"{curation.below_quality} below quality, {curation.conflicts} in conflict, "
        f"{curation.quarantined} quarantined, {curation.unlabelled} without a label"
    )
    lines: list[tuple[str, object]] = [
        ("cycle", text(verdict, "bold green" if planned.would_run else "bold cyan")),
        ("reason", planned.why),
        ("mode", planned.mode),
        ("curation", decided),
        ("new examples", f"up to {planned.training_examples}"),
        ("replayed", f"up to {planned.replay_examples}"),
        ("holdout", planned.holdout_examples),
    ]
    return [facts(lines), text("nothing changed", "dim")]


def analysis(of: str, found: Analysis) -> RenderableType:
    """One text with its analysis."""
    entities = ", ".join(f"{entity.label}: {entity.text!r}" for entity in found.entities)
    out = " (out of scope)" if found.out_of_scope else ""
    intent = None if found.intent is None else f"{found.intent} {found.intent_confidence:.2f}{out}"
    sentiment = None if found.sentiment is None else f"{found.sentiment} {found.sentiment_confidence:.2f}"
    lines: list[tuple[str, object]] = [
        ("text", text(of, "bold")),
        ("intent", intent or "none"),
        ("sentiment", sentiment or "none"),
        ("entities", entities or "none"),
        ("answered by", "the rule-based fallback" if found.degraded else found.model_version),
    ]
    return Padding(facts(lines), (0, 0, 1, 0), expand=False)


def cut(foreign: str) -> str:
    """A text of a user, escaped and cut for a table."""
    return shortened(foreign, TEXT_CHARS)
