"""The result of a learning cycle, and the history."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from karen_learner.cli.render import (
    STATUS_STYLES,
    FittingTable,
    command_line,
    cut,
    facts,
    row,
    score,
    table,
    text,
)
from karen_learner.records import TASKS, LearningCycleResult, Task, ValidationResult

if TYPE_CHECKING:
    from karen_learner.records import Confusion, Verdict

SCORE_NAMES: dict[Task, str] = {
    "intent": "intent_accuracy",
    "sentiment": "sentiment_accuracy",
    "entities": "entity_accuracy",
}
SHOWN_CONFUSIONS = 10


def cycle_result(result: LearningCycleResult, *, home: Path) -> list[RenderableType]:
    """Status, scores before and after, gate checks, confusions, and the command to undo."""
    parts: list[RenderableType] = [Text.assemble(*_headline(result)), facts(_facts(result))]
    if result.validation is not None:
        parts += [Text(), _scores(result.baseline, result.validation)]
    if result.verdict is not None:
        parts.append(_gates(result.verdict))
    if result.validation is not None and result.validation.errors:
        parts.append(_confusions(result.validation.errors))
    return [*parts, text(_next_step(result, home), "bold")]


def _headline(result: LearningCycleResult) -> list[Text]:
    sentences = {
        "deployed": f"{result.model_version} is live for {result.tenant_id!r}",
        "rejected": f"live model of {result.tenant_id!r} unchanged: {result.model_version or 'the fallback'}",
        "skipped": f"no cycle for {result.tenant_id!r}",
        "failed": f"live model of {result.tenant_id!r} unchanged: {result.model_version or 'the fallback'}",
        "rolled_back": f"{result.model_version} is live for {result.tenant_id!r}",
    }
    head = text(result.status.upper().replace("_", " "), STATUS_STYLES[result.status])
    return [head, text(f"  {sentences[result.status]}", "bold")]


def _facts(result: LearningCycleResult) -> list[tuple[str, object]]:
    trained = result.status not in {"skipped", "rolled_back"}
    taken = f"{result.training_examples} new, {result.replay_examples} replayed"
    left = f", {result.skipped_examples} skipped in training" if result.skipped_examples else ""
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result.stage_seconds.items())
    return [
        ("reason", result.error_message),
        ("cycle", f"{result.cycle_id} ({result.mode}{f', {result.reason}' if result.reason else ''})"),
        ("previous version", result.previous_version),
        ("examples", taken + left if trained else None),
        ("curated", _curated(result)),
        ("duration", f"{result.duration_s:.1f} s{f' ({stages})' if stages else ''}"),
        ("its backup", result.backup_path),
    ]


def _curated(result: LearningCycleResult) -> str | None:
    counts = result.curation
    if counts is None or not counts.turns:
        return None
    return (
        f"{counts.turns} turns: {counts.accepted} accepted, {counts.merged} merged, "
        f"{counts.below_quality} below quality, {counts.conflicts} in conflict, "
        f"{counts.quarantined} quarantined, {counts.unlabelled} without a label"
    )


def _scores(before: ValidationResult | None, after: ValidationResult) -> RenderableType:
    numbers = ["texts", "before", "after", "change", "cross-validated"]
    met = "met" if after.passed_threshold else "not met"
    made = table(
        "task", "texts", "before", "after", "change", "95 % interval", "cross-validated",
        title=f"Scores on the holdout (absolute thresholds: {met})", numbers=numbers,
    )  # fmt: skip
    for task in TASKS:
        new = after.task_score(task)
        if new is not None or after.counts.get(task):
            old = before.task_score(task) if before is not None else None
            estimate = (after.cross_validated or {}).get(task)
            interval = after.intervals.get(SCORE_NAMES[task])
            row(
                made,
                task,
                after.counts.get(task, 0),
                *_change(old, new),
                _interval(interval),
                score(estimate),
            )
    old = before.accuracy if before is not None else None
    row(made, "all", None, *_change(old, after.accuracy), _interval(after.intervals.get("accuracy")), None)
    return made


def _change(old: float | None, new: float | None) -> tuple[object, object, object]:
    if old is None or new is None:
        return score(old), score(new), None
    style = "green" if new > old else "red" if new < old else ""
    return score(old), score(new), text(f"{new - old:+.3f}", style)


def _interval(bounds: tuple[float, float] | None) -> str | None:
    return None if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _gates(verdict: Verdict) -> RenderableType:
    made = table("check", "", "detail", title="Gate")
    for check in verdict.checks:
        passed = text("passed", "green") if check.passed else text("FAILED", "bold red")
        row(made, check.name, passed, check.detail)
    return made


def _confusions(errors: Sequence[Confusion]) -> RenderableType:
    made = table(
        "task", "gold", "predicted", "count", "example",
        title="Most frequent confusions", numbers=["count"],
    )  # fmt: skip
    worst = sorted(errors, key=lambda error: -error.count)[:SHOWN_CONFUSIONS]
    for error in worst:
        row(
            made,
            error.task,
            error.gold,
            error.predicted,
            error.count,
            cut(error.texts[0]) if error.texts else None,
        )
    return made


def _next_step(result: LearningCycleResult, home: Path) -> str:
    tenant = result.tenant_id
    if result.status in {"deployed", "rolled_back"}:
        if result.previous_version is None:
            return "first version: no rollback possible"
        return f"to undo: {command_line(home, 'rollback', tenant, result.previous_version)}"
    if result.status == "rejected":
        return f"examples stay pending; status: {command_line(home, 'status', tenant)}"
    if result.status == "failed":
        return "examples stay pending; repeat with --debug to print the stack trace"
    return f"status: {command_line(home, 'status', tenant)}"


def history(results: Sequence[LearningCycleResult]) -> RenderableType:
    """Table of cycles and rollbacks, newest first."""
    optional = ["cycle", "mode", "duration", "entities", "sentiment", "new", "reason"]
    rows = [_history_row(result) for result in results]
    return FittingTable(rows, numbers=["new", "duration"], optional=optional, folded="reason")


def _history_row(result: LearningCycleResult) -> dict[str, object]:
    return {
        "started": f"{result.started_at:%Y-%m-%d %H:%M}Z",
        "cycle": result.cycle_id,
        "mode": result.mode,
        "status": text(result.status, STATUS_STYLES[result.status]),
        "new": result.training_examples,
        **{task: _step(result, task) for task in TASKS},
        "live": result.model_version,
        "duration": f"{result.duration_s:.1f} s",
        "reason": result.reason,
    }


def _step(result: LearningCycleResult, task: Task) -> str | None:
    """`before > after`, or the known one."""
    scores = [found.task_score(task) for found in (result.baseline, result.validation) if found is not None]
    known = [f"{value:.3f}" for value in scores if value is not None]
    return " > ".join(known) or None
