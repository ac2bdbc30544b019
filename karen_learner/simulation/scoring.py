"""How well a model does on the test texts, by the formulas with which cycles are judged."""

from __future__ import annotations

from collections.abc import Sequence

from karen_learner.curation.examples import new_example
from karen_learner.records import TASKS, Analysis, LabelledText, Record, Score, Task
from karen_learner.records.training import PredictionRow
from karen_learner.validation.results import Prediction, mean_score, task_result


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
    results = [task_result(task, examples, predictions)[0] for task in TASKS]
    known = {str(result.task): result.score for result in results if result.texts}
    return Scores(accuracy=mean_score(results), **known)
