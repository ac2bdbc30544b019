"""Records as tables and facts. All foreign text is escaped. Commands import this module lazily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding

from karen_learner.cli.output import text
from karen_learner.cli.render_decisions import check_row, decision, doubt_table, flip_tables, status_text
from karen_learner.cli.render_health import health_text, problem_lines, serving_facts
from karen_learner.cli.tables import (
    FittingTable,
    change,
    command_line,
    cut,
    facts,
    interval_text,
    minute_text,
    place_text,
    short_id,
    utc_text,
)
from karen_learner.records import (
    Analysis,
    Confusion,
    CurationCounts,
    Holdback,
    HomeHealth,
    IngestReport,
    LearningCycleResult,
    LearningMetrics,
    LearningPlan,
    ModelVersion,
    TenantStatus,
    ValidationResult,
    is_healthy,
)

SCORES = {
    "intent": "intent_accuracy",
    "sentiment": "sentiment_accuracy",
    "entities": "entity_accuracy",
}
"""Name of the score of each task in a `ValidationResult`."""
SHOWN_LINES = 20
CONTRADICTED = "an earlier line or stored gold: correct the file, or replace stored gold with --replace"
SHOWN_CONFUSIONS = 10
REMOVED = "(removed)"
OWN_TEXTS = (
    "Each version was scored on the texts of its deployment; `karen-learner compare` scores two on the same."
)


def waiting(home: Path, tenant: str, count: int) -> list[str]:
    """The number of examples that wait after a rollback, and the commands that end the waiting."""
    commands = [f"to {name} them: {command_line(home, name, tenant)}" for name in ("release", "discard")]
    return [f"{count} examples wait because of this rollback", *(commands if count else ())]


def scores(version: ModelVersion) -> str | None:
    """The scores of a version with their names; None without scores."""
    return ", ".join(f"{name} {value:.3f}" for name, value in version.scores.items()) or None


def _live(tenant: TenantStatus) -> str | None:
    """The version that serves."""
    champion = tenant.champion.version if tenant.champion is not None else None
    if tenant.provisional is None:
        return champion
    return f"{tenant.provisional.version}, provisional after {champion}"


def _held(holdback: Holdback | None) -> str | None:
    """The users who are answered by another version."""
    if holdback is None:
        return None
    return f"{holdback.share:.0%} of the users keep {holdback.version} until {utc_text(holdback.ends_at)}"


def status(tenant: TenantStatus, home: HomeHealth) -> list[RenderableType]:
    """Health, champion, counts, last cycle and advice of a tenant."""
    problems = (*tenant.health.problems, *home.problems)
    champion, counts = tenant.champion, tenant.counts
    running, last = tenant.running_cycle, tenant.last_cycle
    states = ", ".join(f"{count} {state}" for state, count in counts.examples.items() if count)
    shown = facts(
        {
            "tenant": text(tenant.tenant_id, "bold"),
            "health": health_text(is_healthy(problems)),
            "live model": _live(tenant) or "none; the fallback answers",
            "holdback": _held(tenant.holdback),
            **serving_facts(tenant.health),
            "deployed": utc_text(champion.created_at) if champion else None,
            "scores at deployment": (scores(champion) or "none") if champion else None,
            "turns": f"{counts.turns} ({counts.with_feedback} with feedback, {counts.corrections} corrected)",
            "awaiting curation": counts.awaiting_curation,
            "examples": f"{states or 'none'}; {counts.gold} gold",
            "degraded answers": counts.degraded or None,
            "cycles": counts.cycles,
            "running": f"{running.cycle_id}: {running.stage}" if running else None,
            "last cycle": f"{status_text(last)}, {utc_text(last.started_at)}" if last else None,
            "next step": text(tenant.advice, "bold"),
        }
    )
    labels = [
        {"task": task, "label": label, "examples": count}
        for task, counted in tenant.labels.items()
        for label, count in sorted(counted.items())
    ]
    parts: list[RenderableType] = [shown, *problem_lines(problems)]
    return [*parts, "", FittingTable(labels, title="Labels")] if labels else parts


def tenants(
    all_of_them: Sequence[TenantStatus], metrics: LearningMetrics, home: HomeHealth
) -> list[RenderableType]:
    """One row per tenant, with counts only, and all problems."""
    if not all_of_them:
        return [
            "no tenants yet: `karen-learner bootstrap TENANT FILE` adds one",
            *problem_lines(home.problems),
        ]
    optional = ["gold", "feedback", "cycles", "accuracy", "turns", "pending", "last"]
    tallies = {
        "tenants": metrics.tenants,
        "turns": metrics.turns,
        "cycles": (
            f"{metrics.total_cycles} ({metrics.successful_cycles} deployed, "
            f"{metrics.rejected_cycles} rejected, {metrics.skipped_cycles} skipped, "
            f"{metrics.failed_cycles} failed)"
        ),
        "mean training time": f"{metrics.average_training_time:.1f} s",
    }
    named = [
        problem.model_copy(update={"message": f"{one.tenant_id}: {problem.message}"})
        for one in all_of_them
        for problem in one.health.problems
    ]
    return [
        FittingTable([_tenant_row(tenant) for tenant in all_of_them], optional=optional, folded="tenant"),
        *problem_lines((*named, *home.problems)),
        facts(tallies),
    ]


def _tenant_row(tenant: TenantStatus) -> dict[str, object]:
    champion, counts, last = tenant.champion, tenant.counts, tenant.last_cycle
    waiting = "ready to learn" if tenant.ready_to_learn else "collecting"
    idle = waiting if champion else "bootstrap needed"
    return {
        "tenant": tenant.tenant_id,
        "health": health_text(tenant.health.healthy),
        "live model": _live(tenant),
        "accuracy": champion.scores.get("accuracy") if champion else None,
        "turns": counts.turns,
        "feedback": counts.with_feedback,
        "pending": counts.examples.get("pending", 0) + counts.awaiting_curation,
        "gold": counts.gold,
        "cycles": counts.cycles,
        "last": status_text(last) if last else None,
        "now": tenant.running_cycle.stage if tenant.running_cycle else idle,
    }


def versions(
    found: Sequence[ModelVersion], champion: str | None, home: Path = Path()
) -> list[RenderableType]:
    """Versions, newest first, with marks for live and removed ones."""
    rows = [_version_row(version, live=version.version == champion, home=home) for version in found]
    table = FittingTable(rows, optional=["backup", "parent", "entities", "sentiment"], folded="backup")
    return [table, text(OWN_TEXTS, "dim")] if len(rows) > 1 else [table]


def _version_row(version: ModelVersion, *, live: bool, home: Path) -> dict[str, object]:
    backup = version.backup_path
    removed = text("removed", "dim") if version.removed else ""
    mark = text("provisional", "dim") if version.provisional and not version.removed else removed
    return {
        "": text("live", "bold green") if live else mark,
        "version": version.version,
        "created": minute_text(version.created_at),
        "parent": None if version.parent is None else short_id(version.parent),
        "accuracy": version.scores.get("accuracy"),
        **{task: version.scores.get(score) for task, score in SCORES.items()},
        "backup": None if backup is None or not backup.is_file() else place_text(backup, home),
        "note": version.note,
    }


def ingest_report(report: IngestReport) -> list[RenderableType]:
    """Imported counts, and the first skipped lines."""
    kept = f"{report.turns} turns, {report.examples} new examples, {report.duplicates} duplicates"
    shown: list[RenderableType] = [facts({"imported": kept, "skipped": report.skipped_count or None})]
    if report.skipped:
        lines = [{"line": one.line, "reason": one.reason} for one in report.skipped[:SHOWN_LINES]]
        shown.append(FittingTable(lines))
    if report.skipped_count > SHOWN_LINES:
        shown.append(f"and {report.skipped_count - SHOWN_LINES} more (--json lists the first 1,000)")
    if report.contradictions:
        subject = "line contradicts" if report.contradictions == 1 else "lines contradict"
        shown.append(f"{report.contradictions} {subject} {CONTRADICTED}")
    return [*shown, *report.notes]


def plan(planned: LearningPlan) -> list[RenderableType]:
    """The plan of a cycle."""
    run = text("would run", "bold green") if planned.would_run else text("would be skipped", "bold cyan")
    lines = {
        "cycle": run,
        "reason": planned.why,
        "mode": planned.mode,
        "curation": _curation(planned.curation),
        "new examples": f"up to {planned.training_examples}",
        "replayed": f"up to {planned.replay_examples}",
        "judged texts": planned.judged_texts,
    }
    return [facts(lines), text("nothing changed", "dim")]


def _curation(counts: CurationCounts) -> str:
    return (
        f"{counts.turns} turns: {counts.accepted} accepted, {counts.merged} merged, "
        f"{counts.below_quality} below quality, {counts.conflicts} in conflict, "
        f"{counts.quarantined} quarantined, {counts.unlabelled} without a label"
    )


def analysis(of: str, found: Analysis) -> RenderableType:
    """One text with its analysis."""
    entities = ", ".join(f"{entity.label}: {entity.text!r}" for entity in found.entities)
    out = " (out of scope)" if found.out_of_scope else ""
    intent = None if found.intent is None else f"{found.intent} {found.intent_confidence:.2f}{out}"
    sentiment = None if found.sentiment is None else f"{found.sentiment} {found.sentiment_confidence:.2f}"
    lines = {
        "text": text(of, "bold"),
        "intent": intent or "none",
        "sentiment": sentiment or "none",
        "entities": entities or "none",
        "answered by": "the fallback" if found.degraded else found.model_version,
    }
    return Padding(facts(lines), (0, 0, 1, 0), expand=False)


def cycle_result(
    result: LearningCycleResult,
    *,
    home: Path,
    texts: Mapping[str, str],
    live: str | None = None,
) -> list[RenderableType]:
    """Decision, scores, gates, flips, confusions, and the next step.

    `texts` are those of examples by id. `live` is the live version, if it may have changed since the cycle.
    """
    news, next_step = _sentences(result, home, live or result.model_version)
    head = status_text(result, upper=True)
    parts: list[RenderableType] = [
        head.append_text(text(f"  {news}", "bold")),
        facts(decision(result.verdict) | _facts(result, home)),
    ]
    if result.validation is not None:
        parts += ["", _scores(result.baseline, result.validation)]
    if result.verdict is not None:
        rows = [check_row(check) for check in result.verdict.checks]
        optional = ["threshold", "statistic", "95 % interval"]
        parts.append(FittingTable(rows, title="Gates", optional=optional, folded="result"))
    if result.flips is not None:
        parts += flip_tables(result.flips, texts)
    if result.doubtful_labels:
        parts.append(doubt_table(result.doubtful_labels, texts))
    if result.validation is not None and result.validation.errors:
        worst = sorted(result.validation.errors, key=lambda error: -error.count)[:SHOWN_CONFUSIONS]
        rows = [confusion_row(error, texts) for error in worst]
        parts.append(FittingTable(rows, title="Most frequent confusions", folded="example"))
    return [*parts, text(next_step, "bold")]


def _sentences(result: LearningCycleResult, home: Path, live_now: str | None) -> tuple[str, str]:
    """The effect on the live model, and the next step."""
    tenant, live = result.tenant_id, result.model_version or "the fallback"
    show_status = f"status: {command_line(home, 'status', tenant)}"
    if result.status in {"deployed", "rolled_back"} and live_now != result.model_version:
        return f"{live} was deployed for {tenant!r}; live now: {live_now}", show_status
    if result.status in {"deployed", "rolled_back"}:
        undo = "first version: no rollback possible"
        if result.lost_version is not None:
            undo = f"it replaces {result.lost_version}, whose files were lost"
        if result.previous_version is not None:
            undo = f"to undo: {command_line(home, 'rollback', tenant, result.previous_version)}"
        return f"{live} is live for {tenant!r}", undo
    if result.status == "skipped":
        return f"no cycle for {tenant!r}", show_status
    missing = result.verdict.missing if result.verdict is not None else None
    if missing is not None:
        show_status = f"{missing}; {show_status}"
    advice = "repeat with --debug to print the stack trace" if result.status == "failed" else show_status
    return f"live model of {tenant!r} unchanged: {live}", f"{_left(result, home)}; {advice}"


def _left(result: LearningCycleResult, home: Path) -> str:
    """The states of the new examples after a rejection or failure."""
    quarantined = result.quarantined_examples
    if not quarantined:
        return "examples stay pending"
    pending = result.training_examples - quarantined
    others = f", {pending} stay pending" if pending > 0 else ""
    listed = command_line(home, "quarantine", result.tenant_id)
    return f"{quarantined} examples are quarantined after a second rejection for harm{others}: {listed}"


def _facts(result: LearningCycleResult, home: Path) -> dict[str, object]:
    trained = result.status not in {"skipped", "rolled_back"}
    taken = f"{result.training_examples} new, {result.replay_examples} replayed"
    left = f", {result.skipped_examples} skipped in training" if result.skipped_examples else ""
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result.stage_seconds.items())
    reason = f", {result.reason}" if result.reason else ""
    return {
        "reason": result.error_message,
        "cycle": f"{short_id(result.cycle_id)} ({result.mode}{reason})",
        "previous version": result.previous_version,
        "examples": taken + left if trained else None,
        "changed meanings": "; ".join(result.changed_meanings) or None,
        "curated": _curation(result.curation) if result.curation and result.curation.turns else None,
        "duration": f"{result.duration_s:.1f} s{f' ({stages})' if stages else ''}",
        "its backup": None if result.backup_path is None else place_text(result.backup_path, home),
    }


def _scores(before: ValidationResult | None, after: ValidationResult) -> FittingTable:
    met = "met" if after.passed_threshold else "not met"
    rows = [_score_row(task, score, before, after) for task, score in SCORES.items()]
    rows = [row for row in rows if row["texts"] or row["after"] is not None]
    rows.append(_score_row("all", "accuracy", before, after))
    return FittingTable(rows, title=f"Out-of-fold scores (absolute thresholds: {met})")


def _score_row(
    name: str, score: str, before: ValidationResult | None, after: ValidationResult
) -> dict[str, object]:
    old = before[score] if before is not None else None
    new = after[score]
    interval = after.intervals.get(score)
    return {
        "task": name,
        "texts": after["counts"].get(name),
        "before": old,
        "after": new,
        "change": None if old is None or new is None else change(old, new),
        "95 % interval": None if interval is None else interval_text(interval),
    }


def confusion_row(error: Confusion, texts: Mapping[str, str]) -> dict[str, object]:
    """A confusion with the first of its texts that is still stored."""
    stored = [texts[name] for name in error.example_ids if name in texts]
    example = cut(stored[0]) if stored else REMOVED if error.example_ids else None
    return {
        "task": error.task,
        "gold": error.gold,
        "predicted": error.predicted,
        "count": error.count,
        "example": example,
    }


def history(results: Sequence[LearningCycleResult]) -> RenderableType:
    """Table of cycles and rollbacks, newest first, and the reasons of those that deployed nothing."""
    optional = ["mode", "duration", "entities", "sentiment", "new", "reason", "live"]
    table = FittingTable([_history_row(result) for result in results], optional=optional, folded="reason")
    reasons = [
        text(f"{short_id(one.cycle_id)}: {one.error_message}", "dim") for one in results if one.error_message
    ]
    return Group(table, *reasons)


def _history_row(result: LearningCycleResult) -> dict[str, object]:
    judged = [found for found in (result.baseline, result.validation) if found is not None]
    steps = {
        task: " → ".join(f"{one[score]:.3f}" for one in judged if one[score] is not None) or None
        for task, score in SCORES.items()
    }
    return {
        "cycle": short_id(result.cycle_id),
        "started": minute_text(result.started_at),
        "mode": result.mode,
        "status": status_text(result),
        "new": result.training_examples,
        **steps,
        "live": None if result.model_version is None else short_id(result.model_version),
        "duration": f"{result.duration_s:.1f} s",
        "reason": result.reason,
    }
