"""The yardstick: the same components, trained from scratch on all that the learner has curated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from asyncio_extras import call_in_executor

from karen_learner.curation import Curator
from karen_learner.learner import AutonomousLearner
from karen_learner.records import LabelledText, Record
from karen_learner.simulation.scoring import Scores, score
from karen_learner.training import BasePipeline, LocalWorker, PredictJob, TrainJob, write_lines


class Refit(Record):
    """How a model does that was trained at once on what the learner came to know bit by bit."""

    training_examples: int
    dev_examples: int
    scores: Scores
    seconds: float


async def refit(
    learner: AutonomousLearner, tenant_id: str, test: Sequence[LabelledText], *, folder: Path
) -> Refit:
    """Train and judge it below `folder`, an empty one; the learner's models are not touched.

    The training and development splits are exactly those that a full cycle would take now, learned and
    pending; the holdout stays out, as it does there. Seconds are those of the training alone. Raises
    TrainingError.
    """
    curator = Curator(learner.store, learner.settings)
    selection = await curator.select(tenant_id, mode="full")
    training = [*selection.new, *selection.replay]
    await write_lines(folder / "train.jsonl", training)
    dev_examples = await write_lines(folder / "dev.jsonl", curator.dev(tenant_id))
    await write_lines(folder / "holdout.jsonl", [LabelledText(text=example.text) for example in test])
    job = await _job(learner, tenant_id, folder)
    async with LocalWorker(learner.settings.training) as worker:
        started = perf_counter()
        report = await worker.train(job)
        seconds = perf_counter() - started
        model = job.pipeline.model_copy(update={"path": str(job.output), "tasks": report.tasks})
        predicted = await worker.predict(PredictJob(tenant_id=tenant_id, models=(model,), corpus=folder))
    return Refit(
        training_examples=len(training),
        dev_examples=dev_examples,
        scores=await call_in_executor(score, test, predicted.rows[0]),
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
