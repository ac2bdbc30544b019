"""The scores of one model on a holdout: pure, from gold examples and plain predictions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS, Example, LabelScore, Task, ValidationResult
from karen_learner.settings import ThresholdSettings
from karen_learner.validation.confusions import confusions
from karen_learner.validation.intervals import Interval, bootstrap, wilson
from karen_learner.validation.outcomes import Tally, TaskOutcome, category_outcome, entity_outcome
from karen_learner.validation.predictions import Prediction

SCORE_NAMES: Mapping[Task, str] = {
    "intent": "intent_accuracy",
    "sentiment": "sentiment_accuracy",
    "entities": "entity_accuracy",
}
"""The score by which each task is judged: also the name of its threshold."""

PerLabel = dict[Task, dict[str, LabelScore]]


@dataclass(frozen=True)
class ScoredHoldout:
    """The scores, and the outcome of each task text by text. Tasks without texts have no outcome."""

    result: ValidationResult
    outcomes: Mapping[Task, TaskOutcome]

    @property
    def texts(self) -> int:
        """The number of judgements: texts counted once for each of their tasks."""
        return sum(outcome.texts for outcome in self.outcomes.values())


def score(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    tasks: Collection[Task] = TASKS,
    thresholds: ThresholdSettings,
) -> ScoredHoldout:
    """Score one prediction for each example, in the same order.

    intent, sentiment: accuracy. Entities: F1 of exact spans with labels, over all texts together; a
    misaligned gold span counts as missed. `accuracy`: the mean of these, weighted by the texts of each
    task. precision, recall, f1_score: macro averages over the labels that are gold or were predicted
    (undefined ones are 0, as in scikit-learn with `zero_division=0`), weighted likewise. Labels of
    tasks outside `tasks` are ignored. Raises InvalidInput if the lengths differ.
    """
    if len(examples) != len(predictions):
        raise InvalidInput(f"{len(predictions)} predictions for {len(examples)} examples: give one for each")
    outcomes: dict[Task, TaskOutcome] = {}
    per_label: PerLabel = {}
    for task in (task for task in TASKS if task in tasks):
        outcome, tallies = _outcome(task, examples, predictions)
        if outcome.texts:
            outcomes[task] = outcome
            per_label[task] = _label_scores(tallies)
    scores = _scores(outcomes, per_label)
    result = ValidationResult(
        **scores,
        passed_threshold=_passed(scores, thresholds),
        counts={task: outcomes[task].texts if task in outcomes else 0 for task in TASKS if task in tasks},
        per_label=per_label,
        intervals=_intervals(outcomes, len(examples)),
        errors=confusions(examples, predictions, tasks=tasks),
    )
    return ScoredHoldout(result, outcomes)


def _outcome(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[TaskOutcome, Mapping[str, Tally]]:
    if task == "entities":
        return entity_outcome(examples, predictions)
    return category_outcome(task, examples, predictions)


def _label_scores(tallies: Mapping[str, Tally]) -> dict[str, LabelScore]:
    return {label: tallies[label].label_score() for label in sorted(tallies)}


def _scores(outcomes: Mapping[Task, TaskOutcome], per_label: PerLabel) -> dict[str, float | None]:
    weights = {task: outcome.texts for task, outcome in outcomes.items()}
    own = {task: outcome.score for task, outcome in outcomes.items()}
    scores: dict[str, float | None] = {SCORE_NAMES[task]: own.get(task) for task in TASKS}
    scores["accuracy"] = _weighted(own, weights)
    for name, part in (("precision", "precision"), ("recall", "recall"), ("f1_score", "f1")):
        scores[name] = _weighted({task: _macro(per_label[task], part) for task in outcomes}, weights)
    return scores


def _weighted(values: Mapping[Task, float], weights: Mapping[Task, int]) -> float | None:
    total = sum(weights.values())
    return sum(values[task] * weights[task] for task in values) / total if total else None


def _macro(labels: Mapping[str, LabelScore], part: str) -> float:
    """The mean over labels. Without any label there was nothing to find, and nothing was found: 1."""
    return sum(getattr(label, part) for label in labels.values()) / len(labels) if labels else 1.0


def _passed(scores: Mapping[str, float | None], thresholds: ThresholdSettings) -> bool:
    """Whether every score that there is reaches its threshold; not if there is none."""
    known = {name: scores[name] for name in ("accuracy", *SCORE_NAMES.values())}
    reached = [value >= getattr(thresholds, name) for name, value in known.items() if value is not None]
    return bool(reached) and all(reached)


def _intervals(outcomes: Mapping[Task, TaskOutcome], texts: int) -> dict[str, Interval]:
    intervals: dict[str, Interval] = {}
    for task, outcome in outcomes.items():
        if task == "entities":
            intervals[SCORE_NAMES[task]] = bootstrap([outcome], texts=texts)
        else:
            intervals[SCORE_NAMES[task]] = wilson(int(outcome.values.sum()), outcome.texts)
    if outcomes:
        intervals["accuracy"] = bootstrap(list(outcomes.values()), texts=texts)
    return intervals
