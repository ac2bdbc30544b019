"""Scores and error analysis of one model on labelled texts; texts that two models answer otherwise. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from karen_learner.errors import InvalidInput
from karen_learner.metrics import Interval, Span, compare_spans, wilson
from karen_learner.records import (
    CATEGORY_TASKS,
    TASKS,
    Confusion,
    Example,
    Flip,
    FlipKind,
    Flips,
    LabelScore,
    Task,
    ValidationResult,
)
from karen_learner.records.cycles import FLIP_KINDS
from karen_learner.settings import ThresholdSettings
from karen_learner.validation.results import (
    Prediction,
    TaskResult,
    bootstrap,
    gold_spans,
    mean_score,
    task_result,
)

SCORE_NAMES: Mapping[Task, str] = {
    "intent": "intent_accuracy",
    "sentiment": "sentiment_accuracy",
    "entities": "entity_accuracy",
}
"""The score of each task; also the name of its threshold."""
NOTHING = "(none)"
"""In place of the gold label of a spurious entity, and of the prediction for a missed label."""
OTHER_BOUNDS = "(other bounds)"
MAX_CONFUSIONS = 20
MAX_EXAMPLES = 3

LabelScores = Mapping[Task, Mapping[str, LabelScore]]
Error = tuple[Task, str, str]
"""Task, gold label, predicted label."""


@dataclass(frozen=True)
class ScoredTexts:
    """The scores, and the result of each task text by text. Tasks without texts have no result."""

    result: ValidationResult
    by_task: Mapping[Task, TaskResult]

    @property
    def texts(self) -> int:
        """The number of judgements: texts counted once for each of their tasks."""
        return sum(result.texts for result in self.by_task.values())


def results_by_task(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> Mapping[Task, TaskResult]:
    """The results of one model text by text, from one prediction for each example; no tasks without texts."""
    found = {task: task_result(task, examples, predictions)[0] for task in TASKS}
    return {task: result for task, result in found.items() if result.texts}


def score(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    thresholds: ThresholdSettings,
) -> ScoredTexts:
    """Scores from one prediction for each example, in the same order.

    intent, sentiment: accuracy. Entities: F1 of exact spans with labels over all texts; a misaligned gold
    span counts as missed. `accuracy`: the mean of these, weighted by the texts of each task. precision,
    recall, f1_score: macro averages over the labels that are gold or predicted (as scikit-learn with
    `zero_division=0`), weighted likewise. Raises InvalidInput if the lengths differ.
    """
    if len(examples) != len(predictions):
        raise InvalidInput(f"{len(predictions)} predictions for {len(examples)} examples: give one for each")
    found = {task: task_result(task, examples, predictions) for task in TASKS}
    by_task = {task: result for task, (result, _) in found.items() if result.texts}
    per_label = {task: found[task][1] for task in by_task}
    scores = _scores(by_task, per_label)
    result = ValidationResult(
        **scores,
        passed_threshold=_passes(scores, thresholds),
        counts={task: result.texts for task, (result, _) in found.items()},
        per_label=per_label,
        intervals=_intervals(by_task, len(examples)),
        errors=analyse_errors(examples, predictions),
    )
    return ScoredTexts(result, by_task)


def _scores(by_task: Mapping[Task, TaskResult], per_label: LabelScores) -> dict[str, float | None]:
    scores: dict[str, float | None] = {
        name: by_task[task].score if task in by_task else None for task, name in SCORE_NAMES.items()
    }
    scores["accuracy"] = mean_score(by_task.values())
    texts = sum(result.texts for result in by_task.values())
    for name, part in (("precision", "precision"), ("recall", "recall"), ("f1_score", "f1")):
        total = sum(_macro(per_label[task], part) * result.texts for task, result in by_task.items())
        scores[name] = total / texts if texts else None
    return scores


def _macro(labels: Mapping[str, LabelScore], part: str) -> float:
    """The mean over labels; 1 if nothing is gold and nothing is predicted."""
    return sum(getattr(label, part) for label in labels.values()) / len(labels) if labels else 1.0


def _passes(scores: Mapping[str, float | None], thresholds: ThresholdSettings) -> bool:
    """Whether every known score reaches its threshold; False without scores."""
    known = {name: scores[name] for name in ("accuracy", *SCORE_NAMES.values())}
    reached = [value >= getattr(thresholds, name) for name, value in known.items() if value is not None]
    return bool(reached) and all(reached)


def _intervals(by_task: Mapping[Task, TaskResult], texts: int) -> dict[str, Interval]:
    """95 % intervals: Wilson for accuracies, bootstrap for the F1 and the mean."""
    intervals: dict[str, Interval] = {}
    for task, result in by_task.items():
        if task in CATEGORY_TASKS:
            intervals[SCORE_NAMES[task]] = wilson(int(result.values.sum()), result.texts)
        else:
            intervals[SCORE_NAMES[task]] = bootstrap([result], texts=texts)
    if by_task:
        intervals["accuracy"] = bootstrap(list(by_task.values()), texts=texts)
    return intervals


def analyse_errors(examples: Sequence[Example], predictions: Sequence[Prediction]) -> tuple[Confusion, ...]:
    """The 20 most frequent confusions, the most frequent first, with up to three examples each.

    A predicted entity that overlaps a gold one is a confusion of labels or of bounds. Without overlap it is
    spurious, and the gold one is missed.
    """
    counts: dict[Error, int] = defaultdict(int)
    ids_by_text: dict[Error, dict[str, str]] = defaultdict(dict)
    for example, prediction in zip(examples, predictions, strict=True):
        for error in _errors(example, prediction):
            counts[error] += 1
            if len(ids_by_text[error]) < MAX_EXAMPLES:
                ids_by_text[error].setdefault(example.text, example.example_id)
    most = sorted(counts, key=lambda error: (-counts[error], error))[:MAX_CONFUSIONS]
    return tuple(
        Confusion(
            task=error[0],
            gold=error[1],
            predicted=error[2],
            count=counts[error],
            example_ids=tuple(ids_by_text[error].values()),
        )
        for error in most
    )


def _errors(example: Example, prediction: Prediction) -> Iterator[Error]:
    for task in TASKS:
        if getattr(example, task) is not None:
            for known, found in _confused(set(gold_spans(example, task)), set(prediction.spans(task))):
                yield task, known, found


def _confused(gold: Iterable[Span], predicted: Iterable[Span]) -> Iterator[tuple[str, str]]:
    _, spurious, missed = compare_spans(gold, predicted)
    left = sorted(spurious)
    for span in sorted(missed):
        other = next((other for other in left if _overlap(span, other)), None)
        if other is None:
            yield span[2], NOTHING
            continue
        left.remove(other)
        yield span[2], other[2] if other[2] != span[2] else f"{span[2]} {OTHER_BOUNDS}"
    for span in left:
        yield NOTHING, span[2]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def flips(
    examples: Sequence[Example], before: Sequence[Prediction], after: Sequence[Prediction]
) -> Iterator[Flip]:
    """The texts that two versions answer differently, in the order of the examples, task by task."""
    for example, old, new in zip(examples, before, after, strict=True):
        for task in TASKS:
            if getattr(example, task) is None:
                continue
            gold, first, second = (
                sorted(spans) for spans in (gold_spans(example, task), old.spans(task), new.spans(task))
            )
            if first != second:
                kind: FlipKind = "fixed" if second == gold else "broken" if first == gold else "changed"
                yield Flip(
                    kind=kind,
                    task=task,
                    example_id=example.example_id,
                    gold=_as_text(task, gold),
                    before=_as_text(task, first),
                    after=_as_text(task, second),
                )


def _as_text(task: Task, spans: Sequence[tuple[int, int, str]]) -> str:
    if task != "entities":
        return spans[0][2] if spans else NOTHING
    return ", ".join(f"{label} {start}-{end}" for start, end, label in spans) or NOTHING


def first_of_each_kind(found: Sequence[Flip], limit: int) -> tuple[Flip, ...]:
    """The first flips of each kind, at most `limit` each: fixed, broken, changed."""
    by_kind = ([flip for flip in found if flip.kind == kind] for kind in FLIP_KINDS)
    return tuple(flip for flips_of_kind in by_kind for flip in flips_of_kind[:limit])


def summary_of_flips(found: Sequence[Flip], *, limit: int) -> Flips:
    """Their numbers by task and kind, and the first of each kind, at most `limit` each."""
    counts = Counter((flip.task, flip.kind) for flip in found)
    return Flips(
        counts={
            task: {kind: counts[task, kind] for kind in FLIP_KINDS}
            for task in TASKS
            if any(flip.task == task for flip in found)
        },
        first=first_of_each_kind(found, limit),
    )
