"""Evaluations and comparisons of versions as tables and facts. Commands import this module lazily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType

from karen_learner.cli.output import text
from karen_learner.cli.render import SCORES, SHOWN_CONFUSIONS, confusion_row
from karen_learner.cli.render_decisions import SHOWN_FLIPS, flip_list
from karen_learner.cli.tables import FittingTable, facts, interval_text
from karen_learner.records import TASKS, LabelScore, SkippedLine, Task
from karen_learner.records.cycles import FLIP_KINDS
from karen_learner.records.evaluations import Evaluation, ScopeRates, TaskDifference, VersionComparison

SHOWN_LABELS = 20
SOURCES = {"labelled": "labelled texts", "judged": "judged gold texts"}


def evaluation(found: Evaluation) -> list[RenderableType]:
    """Scores with intervals, the labels with the lowest F1, the most frequent confusions, and scope."""
    parts: list[RenderableType] = [
        text(f"{found.version} of {found.tenant_id!r} on {found.texts} texts", "bold"),
        FittingTable(
            [*_score_rows(found)], title="Scores", optional=["confidence", "texts", "calibration error"]
        ),
        *_labels(found),
    ]
    if found.scores.errors:
        rows = [confusion_row(error, found.example_texts) for error in found.scores.errors[:SHOWN_CONFUSIONS]]
        parts.append(FittingTable(rows, title="Most frequent confusions", folded="example"))
    if found.scope is not None:
        parts.append(facts(_scope(found.scope)))
    if found.degraded:
        parts.append(text(f"the model failed on {found.degraded} texts: the fallback answered", "bold red"))
    return parts


def _score_rows(found: Evaluation) -> Iterator[dict[str, object]]:
    reliability = {str(task): one for task, one in found.reliability.items()}
    for task, score in {**SCORES, "all": "accuracy"}.items():
        value, interval = found.scores[score], found.scores.intervals.get(score)
        if value is not None:
            known = reliability.get(task)
            yield {
                "task": task,
                "texts": found.scores["counts"].get(task),
                "score": value,
                "95 % interval": None if interval is None else interval_text(interval),
                "confidence": None if known is None else known.confidence,
                "calibration error": None if known is None else known.calibration_error,
            }


def _labels(found: Evaluation) -> Iterator[RenderableType]:
    """The labels by task, the lowest F1 first; of many labels only the lowest."""
    rows = [(task, *one) for task, labels in found.scores.per_label.items() for one in labels.items()]
    rows.sort(key=lambda row: (TASKS.index(row[0]), row[2].f1, row[1]))
    shown = rows
    if len(rows) > SHOWN_LABELS:
        shown = sorted(rows, key=lambda row: (row[2].f1, -row[2].support, row[1]))[:SHOWN_LABELS]
    title = "Labels" if len(shown) == len(rows) else f"The {len(shown)} labels with the lowest F1"
    yield FittingTable([_label_row(*row) for row in shown], title=title, optional=["task"], folded="label")
    if len(shown) < len(rows):
        yield text(f"and {len(rows) - len(shown)} more labels (--json lists all)", "dim")


def _label_row(task: Task, label: str, score: LabelScore) -> dict[str, object]:
    return {
        "task": task,
        "label": label,
        "texts": score.support,
        "precision": score.precision,
        "recall": score.recall,
        "F1": score.f1,
    }


def _scope(rates: ScopeRates) -> dict[str, object]:
    def share(value: float | None) -> str | None:
        return None if value is None else f"{100 * value:.1f} %"

    return {
        "out of scope": f"{share(rates.out_of_scope)} of {rates.texts} texts",
        "  known intents": share(rates.known),
        "  unknown intents": share(rates.unknown),
    }


def differences(found: VersionComparison, *, names: tuple[str, str] = ("A", "B")) -> RenderableType:
    """The scores of two versions on the same texts. `names` are those of the columns."""
    rows = [_difference_row(task, names) for task in found.tasks]
    title = f"Scores on {found.texts} {SOURCES[found.source]}"
    return FittingTable(rows, title=title, optional=["texts", "changed"])


def comparison(found: VersionComparison) -> list[RenderableType]:
    """Differences by task with intervals, and the texts that both versions answer differently."""
    versions = f"A {found.before}, B {found.after} of {found.tenant_id!r}"
    parts: list[RenderableType] = [
        text(versions, "bold"),
        differences(found),
    ]
    if not found.flips:
        return [*parts, text("both versions give the same answers", "dim")]
    parts += [text("Texts with other answers", "table.title")]
    parts += flip_list(found.flips, found.example_texts, names=("A", "B"))
    if any(getattr(task, kind) > SHOWN_FLIPS for task in found.tasks for kind in FLIP_KINDS):
        parts.append(text("--json lists up to 1,000 texts of each kind", "dim"))
    return parts


def _difference_row(task: TaskDifference, names: tuple[str, str]) -> dict[str, object]:
    style = "green" if task.difference > 0 else "red" if task.difference < 0 else ""
    return {
        "task": task.task,
        "texts": task.texts,
        names[0]: task.before,
        names[1]: task.after,
        "difference": text(f"{task.difference:+.3f}", style),
        "95 % interval": None if task.interval is None else interval_text(task.interval, signed=True),
        **{kind: getattr(task, kind) for kind in FLIP_KINDS},
    }


def warnings(
    unknown: Mapping[str, Mapping[Task, Mapping[str, int]]],
    skipped: Sequence[SkippedLine],
    skipped_count: int,
    notes: Sequence[str] = (),
) -> Iterator[str]:
    """Messages about unknown labels by version, about skipped lines, and the notes of the reader."""
    for version, tasks in unknown.items():
        for task, labels in tasks.items():
            named = ", ".join(f"{label!r} ({count})" for label, count in list(labels.items())[:5])
            more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
            yield (
                f"{version} does not know these labels of {task}; their texts count as wrong: {named}{more}"
            )
    if skipped_count:
        first = skipped[0]
        yield f"skipped lines: {skipped_count}; line {first.line}: {first.reason}"
    yield from notes
