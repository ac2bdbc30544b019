"""Scores on test texts, with the formulas of validation."""

from __future__ import annotations

from collections.abc import Sequence

from karen_learner.curation.examples import new_example
from karen_learner.records import TASKS, Analysis, LabelledText, Record, Score, Task
from karen_learner.records.training import PredictionRow
from karen_learner.validation.results import Prediction, mean_score, task_result


class Scores(Record):
    """Accuracy of `intent` and `sentiment`, F1 of exact spans of `entities`, and their weighted mean.

    The weights are the texts of each task. A task without test texts is None.
    """

    accuracy: Score | None = None
    intent: Score | None = None
    sentiment: Score | None = None
    entities: Score | None = None

    @property
    def by_task(self) -> dict[Task, float]:
        """Scores of the tasks with test texts."""
        known: dict[Task, float | None] = {
            "intent": self.intent,
            "sentiment": self.sentiment,
            "entities": self.entities,
        }
        return {task: value for task, value in known.items() if value is not None}


def row_of(analysis: Analysis) -> PredictionRow:
    """An analysis in the format of the worker's predictions."""
    spans = tuple((entity.start, entity.end, entity.label) for entity in analysis.entities)
    return analysis.intent, analysis.sentiment, spans


def score(gold: Sequence[LabelledText], rows: Sequence[PredictionRow]) -> Scores:
    """Scores of predictions, one row per gold text."""
    examples = [new_example(example, source="seed", quality=1.0) for example in gold]
    predictions = [Prediction.from_row(row) for row in rows]
    results = [task_result(task, examples, predictions)[0] for task in TASKS]
    known = {str(result.task): result.score for result in results if result.texts}
    return Scores(accuracy=mean_score(results), **known)
