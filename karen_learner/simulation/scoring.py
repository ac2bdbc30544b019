"""Scores on test texts, with the formulas of validation."""

from __future__ import annotations

from collections.abc import Sequence

from karen_learner.curation.examples import new_example
from karen_learner.records import Analysis, Example, LabelledText, Record, Score, Task
from karen_learner.records.training import PredictionRow
from karen_learner.validation.outcomes import TaskOutcome, category_outcome, entity_outcome
from karen_learner.validation.predictions import Prediction


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
    outcomes = [outcome for outcome in _outcomes(examples, predictions) if outcome.texts]
    judged = sum(outcome.texts for outcome in outcomes)
    mean = sum(outcome.score * outcome.texts for outcome in outcomes) / judged if judged else None
    return Scores(accuracy=mean, **{str(outcome.task): outcome.score for outcome in outcomes})


def _outcomes(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[TaskOutcome]:
    return [
        category_outcome("intent", examples, predictions)[0],
        category_outcome("sentiment", examples, predictions)[0],
        entity_outcome(examples, predictions)[0],
    ]
