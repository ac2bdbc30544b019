"""Health of homes and tenants as facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from karen_learner.cli.output import text
from karen_learner.cli.tables import FittingTable, command_line, cut, facts, place_text, short_id, utc_text
from karen_learner.disk import bytes_text
from karen_learner.records import (
    DiskUse,
    HealthProblem,
    HomeBackup,
    HomeHealth,
    LabelledText,
    PruneReport,
    Quarantine,
    RepairAction,
    RepairReport,
    TenantHealth,
    utc_now,
)

SERVERS = {
    "model": "the live model",
    "base": "the base pipeline",
    "analyzer": "the analyzer of the host",
    "fallback": "the fallback",
}
REPAIRS_NEEDED: Mapping[RepairAction, str] = {
    "nothing": "nothing to repair",
    "back_up": "a missing backup would be made",
    "restore": "a damaged version would be restored from its backup",
    "retrain": "the live model is lost: a new one would be trained from the stored examples",
}
REPAIRS_DONE: Mapping[RepairAction, str] = {
    "nothing": "nothing to repair: the live model is intact and loads",
    "back_up": "a missing backup was made",
    "restore": "a damaged version was restored from its backup",
    "retrain": "a new model was trained from the stored examples",
}
SEVERITY_STYLES = {"warning": "yellow", "failing": "bold red"}
UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def health_text(healthy: bool) -> Text:
    """Health in one word."""
    return text("ok", "bold green") if healthy else text("UNHEALTHY", "bold red")


def serving_facts(health: TenantHealth) -> dict[str, object]:
    """The source of the analyses since a time, the reason, the age of the model, and the last error."""
    made = health.model_created_at
    at = "" if health.last_error_at is None else f"{utc_text(health.last_error_at)}: "
    return {
        "answered by": _server(health),
        "reason": health.reason,
        "model age": None if made is None else age_text((utc_now() - made).total_seconds()),
        "last error": None if health.last_error is None else at + health.last_error,
    }


def problem_lines(problems: Iterable[HealthProblem]) -> Iterator[RenderableType]:
    """Each problem with its remedy on one line."""
    for problem in problems:
        yield text(
            f"{problem.severity}: {problem.message}; {problem.remedy}", SEVERITY_STYLES[problem.severity]
        )


def repair_report(report: RepairReport, *, dry_run: bool) -> list[RenderableType]:
    """The checked versions, and the action that is necessary or done."""
    rows = [
        {"version": one.version, "files": one.files, "backup": one.backup, "problem": one.problem}
        for one in report.checks
    ]
    action = (REPAIRS_NEEDED if dry_run else REPAIRS_DONE)[report.action]
    if report.problem is not None:
        action = (
            f"the live model is not lost, but cannot be loaded: {report.problem}. Nothing is trained: mend "
            "the cause (permissions, installed packages, training.imports), or repeat with --force"
        )
    elif report.cycle is not None and not report.done:
        action = f"no model was deployed ({report.cycle.status}): {report.cycle.error_message}"
    elif report.cycle is not None:
        action = f"{action}: {report.cycle.model_version} is live"
    return [
        *([FittingTable(rows, folded="problem")] if rows else []),
        text(action if rows else "there is no live model: `karen-learner bootstrap` trains one", "bold"),
    ]


def quarantined(found: Quarantine, home: Path) -> list[RenderableType]:
    """The numbers of examples by reason, and the examples with their short ids."""
    if not found.counts:
        return ["no example is quarantined, in conflict, or waiting"]
    counts = ", ".join(f"{count} {reason}" for reason, count in found.counts.items())
    rows = [
        {
            "id": short_id(one.example_id),
            "reason": one.reason,
            "labels": labels_text(one),
            "text": cut(one.text) if one.text else "(removed)",
            "detail": one.detail or one.remedy,
        }
        for one in found.examples
    ]
    release = command_line(home, "quarantine", found.tenant_id, "release", "ID")
    return [
        text(counts, "bold"),
        FittingTable(rows, optional=["labels"], folded="text"),
        f"to learn an example: {release}",
    ]


def labels_text(labelled: LabelledText) -> str | None:
    """The labels of a text on one line."""
    parts = [label for label in (labelled.intent, labelled.sentiment) if label is not None]
    parts += [f"{span.label} {span.start}-{span.end}" for span in labelled.entities or ()]
    return ", ".join(parts) or None


def pruned(
    reports: Sequence[PruneReport], disk: DiskUse, home: Path, *, dry_run: bool
) -> list[RenderableType]:
    """The files that were or would be removed, and the free space."""
    files = [one for report in reports for one in report.removed]
    rows = [
        {
            "kind": one.kind,
            "size": bytes_text(one.size),
            "reason": one.reason,
            "path": place_text(one.path, home),
        }
        for one in files
    ]
    total = bytes_text(sum(one.size for one in files))
    done = f"{len(files)} files and folders with {total} {'would be' if dry_run else 'are'} removed"
    free = f"{bytes_text(disk.free)} of {bytes_text(disk.size)} are free"
    table = [FittingTable(rows, optional=["path"], folded="reason")] if rows else []
    return [*table, text(f"{done}; {free}")]


def home_backup(made: HomeBackup, home: Path) -> list[RenderableType]:
    """An archive of a home, and the next command."""
    champions = [f"{tenant} ({version or 'no model'})" for tenant, version in made.champions.items()]
    shown = {
        "archive": made.archive,
        "created": utc_text(made.created_at),
        "files": f"{made.files} with {bytes_text(made.size)} compressed",
        "tenants": ", ".join(champions) or "none",
    }
    end = text("the archive is intact; nothing changed" if not made.done else "done", "bold green")
    return [
        facts(shown),
        *(text(note, "yellow") for note in made.notes),
        end,
        f"to check a home: {command_line(home, 'status')}",
    ]


def home_facts(home: HomeHealth) -> RenderableType:
    """Disk use by kind, and free space."""
    disk = home.disk
    kinds = ", ".join(f"{kind} {bytes_text(count)}" for kind, count in disk.by_kind.items() if count)
    return facts(
        {
            "disk": f"{bytes_text(disk.total)} ({kinds})",
            "free": f"{bytes_text(disk.free)} of {bytes_text(disk.size)}",
        }
    )


def age_text(seconds: float) -> str:
    """A time span in its largest whole unit."""
    for size, name in UNITS:
        count = int(seconds // size)
        if count:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{int(seconds)} seconds"


def _server(health: TenantHealth) -> str:
    since = _since(health.since)
    name = health.version if health.served_by == "model" and health.version else SERVERS[health.served_by]
    return f"{name}{since}"


def _since(moment: datetime | None) -> str:
    return "" if moment is None else f" since {utc_text(moment)}"
