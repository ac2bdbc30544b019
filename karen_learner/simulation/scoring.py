"""Scores on test texts: of the live model, and of a reference model trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from asyncio_extras import call_in_executor

from karen_learner.corpora.lines import write_lines
from karen_learner.curation import Curator
from karen_learner.curation.examples import new_example
from karen_learner.learner import AutonomousLearner
from karen_learner.records import TASKS, Analysis, LabelledText, Record, Score, Task
from karen_learner.records.training import PredictionRow, PredictJob, TrainJob
from karen_learner.training import BasePipeline, LocalWorker
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
        return {task: self[task] for task in TASKS if self[task] is not None}


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


async def evaluate(learner: AutonomousLearner, tenant_id: str, test: Sequence[LabelledText]) -> Scores:
    """Scores of the live model on the test texts. Stores nothing."""
    analyses = await learner.analyze_many(tenant_id, [example.text for example in test])
    scores: Scores = await call_in_executor(score, test, [row_of(analysis) for analysis in analyses])
    return scores


class Refit(Record):
    """Scores and cost of the reference model."""

    training_examples: int
    scores: Scores
    seconds: float


async def refit(
    learner: AutonomousLearner, tenant_id: str, test: Sequence[LabelledText], *, folder: Path
) -> Refit:
    """Train and evaluate the reference model below the empty `folder`. The learner's models stay unchanged.

    It learns from all curated examples. `seconds` covers the training alone. Raises TrainingError.
    """
    curator = Curator(learner.store, learner.settings)
    selection = await curator.select(tenant_id, mode="full")
    training = [*selection.new, *selection.replay]
    await write_lines(folder / "train.jsonl", training)
    await write_lines(folder / "test.jsonl", [LabelledText(text=example.text) for example in test])
    job = await _job(learner, tenant_id, folder)
    async with LocalWorker(learner.settings.training) as worker:
        started = perf_counter()
        report = await worker.train(job)
        seconds = perf_counter() - started
        model = job.pipeline.model_copy(update={"path": str(job.output), "tasks": report.tasks})
        predicted = await worker.predict(
            PredictJob(tenant_id=tenant_id, models=(model,), texts=folder / "test.jsonl")
        )
    return Refit(
        training_examples=len(training),
        scores=await call_in_executor(score, test, [one.row for one in predicted.predicted]),
        seconds=seconds,
    )


async def _job(learner: AutonomousLearner, tenant_id: str, folder: Path) -> TrainJob:
    settings = learner.settings.training
    labels = await learner.store.labels(tenant_id)
    return TrainJob(
        tenant_id=tenant_id,
        mode="full",
        pipeline=await BasePipeline(learner.analyzer, learner.layout, settings).spec(),
        corpus=folder,
        labels={task: tuple(sorted(known)) for task, known in labels.items()},
        settings=settings,
        output=folder / "model",
    )
