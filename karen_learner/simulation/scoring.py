"""How well a model does on the test texts, by the formulas with which cycles are judged."""

from __future__ import annotations

from collections.abc import Sequence

from karen_learner.curation.candidates import new_example
from karen_learner.records import Analysis, Example, LabelledText, Record, Score, Task
from karen_learner.records.training import PredictionRow
from karen_learner.validation.outcomes import TaskOutcome, category_outcome, entity_outcome
from karen_learner.validation.predictions import Prediction


class Scores(Record):
    """`intent` and `sentiment` are accuracies, `entities` the F1 of exact spans with labels, `accuracy`
    their mean weighted by the texts of each task. A task that the test texts lack is None."""

    accuracy: Score | None = None
    intent: Score | None = None
    sentiment: Score | None = None
    entities: Score | None = None

    @property
    def by_task(self) -> dict[Task, float]:
        """The scores of the tasks that there are."""
        known: dict[Task, float | None] = {
            "intent": self.intent,
            "sentiment": self.sentiment,
            "entities": self.entities,
        }
        return {task: value for task, value in known.items() if value is not None}


def row_of(analysis: Analysis) -> PredictionRow:
    """What the live model says, in the form in which the worker tells it."""
    spans = tuple((entity.start, entity.end, entity.label) for entity in analysis.entities)
    return analysis.intent, analysis.sentiment, spans


def score(gold: Sequence[LabelledText], rows: Sequence[PredictionRow]) -> Scores:
    """The scores of predictions, one row a text, on texts whose labels are known."""
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
