"""What the worker does with a job. Plain functions: they run in any process, tests call them directly."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import fix_random_seed

from karen_learner.components.textcat.pipe import BaseTextCategorizer
from karen_learner.corpora.docbin import lines_to_docbin, numbered_docs, read_examples, write_docs
from karen_learner.corpora.parsing import CorruptExample
from karen_learner.errors import TrainingError
from karen_learner.records import CATEGORY_TASKS, TASKS, LabelledText, Task
from karen_learner.records.training import (
    CalibrationSummary,
    CrossValidateJob,
    CrossValidateReport,
    PassReport,
    PipelineSpec,
    PredictionRow,
    PredictJob,
    PredictReport,
    PreloadJob,
    PreloadReport,
    RightRow,
    TaskReport,
    TrainJob,
    TrainReport,
)
from karen_learner.settings import TrainingSettings
from karen_learner.training.cache import Predicted, Warm
from karen_learner.training.pipelines import TrainablePipeline
from karen_learner.training.protocol import Job, Report
from karen_learner.training.replay import rehearse, training_examples
from karen_learner.training.self_training import guess
from karen_learner.training.trainer import PipeTrainer, Plan, likeliest, plan_of, score_pipe, scores_of

OnPass = Callable[[PassReport], None]
Given = Mapping[Task, dict[str, float]]
"""What a document is given by the text categorizers of a pipeline: the score of each label, by task."""
REASONS_TOLD = 20
LEAST_TO_CALIBRATE = 40
"""Of fewer examples, the rate of false alarms cannot be told to within a few percent."""


def perform(job: Job, on_pass: OnPass, *, warm: Warm | None = None) -> Report:
    """Do a job of any kind. Raises TrainingError or ModelError."""
    if isinstance(job, TrainJob):
        return train(job, on_pass, warm=warm)
    if isinstance(job, PredictJob):
        return predict(job, warm=warm)
    if isinstance(job, PreloadJob):
        return preload(job, warm=warm)
    return cross_validate(job)


def train(job: TrainJob, on_pass: OnPass, *, warm: Warm | None = None) -> TrainReport:
    """Train every task that has examples, and save the candidate to `job.output`."""
    warm = warm or Warm()
    fix_random_seed(job.settings.seed)  # initial weights and dropout: the same data, the same model
    _require_corpus(job.corpus)
    pipeline = warm.take(job.pipeline)
    skipped: list[str] = []
    new = list(numbered_docs(pipeline.nlp, job.corpus / "train.jsonl", skipped=skipped).values())
    pool = numbered_docs(pipeline.nlp, job.corpus / "replay.jsonl", skipped=skipped)
    unlabelled = numbered_docs(pipeline.nlp, job.corpus / "unlabelled.jsonl", skipped=skipped)
    dev = lines_to_docbin(pipeline.nlp, job.corpus / "dev.jsonl", skipped=skipped)
    continued = set(pipeline.tasks) if job.mode == "incremental" else set()
    known = {task: pipeline.pipe(task).labels for task in continued & set(pipeline.trainable_tasks)}
    pipeline.prepare(job.labels, [*new, *pool.values()])
    if not pipeline.trainable_tasks:
        raise TrainingError(
            "there is nothing to train: no task has labels enough (two intents, two sentiments, or an "
            "entity label) among the examples"
        )
    again = _rehearsed(pipeline, list(pool.values()), job)
    guessed = {
        task: guess(pipeline.pipe(task), unlabelled, known=known.get(task, ()))
        for task in pipeline.trainable_tasks
    }
    chosen = {doc for docs in again.values() for doc, _ in docs}
    replayed = {line: doc for line, doc in pool.items() if doc in chosen}
    write_docs(job.corpus / "train.spacy", [*new, *replayed.values()])
    reports = {
        task: report
        for task in pipeline.trainable_tasks
        if (
            report := _train_task(
                pipeline,
                task,
                training_examples(pipeline, task, new, again[task], guessed=list(guessed[task].values())),
                dev,
                job.settings,
                on_pass,
                skipped,
                plan=plan_of(job.settings, mode=job.mode, continues=task in continued),
            )
        )
    }
    pipeline.save(job.output)
    warm.keep(pipeline, job.output)
    return TrainReport(
        tasks=pipeline.tasks,
        by_task=reports,
        replayed=tuple(replayed),
        pseudo_labelled=tuple(sorted({line for lines in guessed.values() for line in lines})),
        skipped=len(skipped),
        skipped_reasons=tuple(skipped[:REASONS_TOLD]),
    )


def _require_corpus(corpus: Path) -> None:
    if not (corpus / "train.jsonl").is_file():
        raise TrainingError(f"there is nothing to train on: {corpus / 'train.jsonl'} is not there")


def _rehearsed(
    pipeline: TrainablePipeline, pool: Sequence[Doc], job: TrainJob
) -> dict[Task, list[tuple[Doc, float]]]:
    """What each pipe trains on again, by task; chosen before the first of them has learned anything."""
    rng = random.Random(job.settings.seed)  # noqa: S311 - a seeded draw, no secret
    return {
        task: rehearse(pipeline.pipe(task), pipeline.labelled(task, pool), budget=job.replay, rng=rng)
        for task in pipeline.trainable_tasks
    }


def _train_task(
    pipeline: TrainablePipeline,
    task: Task,
    examples: Sequence[Example],
    dev: Sequence[Doc],
    settings: TrainingSettings,
    on_pass: OnPass,
    skipped: list[str],
    *,
    plan: Plan,
) -> TaskReport | None:
    if not examples:
        return None
    held = pipeline.examples(task, dev)
    trainer = PipeTrainer(
        pipeline.nlp,
        task,
        pipeline.tasks[task],
        settings=settings,
        plan=plan,
        rng=random.Random(settings.seed),  # noqa: S311 - a seeded shuffle, no secret
    )
    passes = []
    for report in trainer.passes(examples, held):
        passes.append(report)
        on_pass(report)
    skipped.extend(trainer.skipped)
    calibration = calibrate(pipeline.pipe(task), held, false_alarm_rate=settings.false_alarm_rate)
    return TaskReport(
        pipe=pipeline.tasks[task],
        examples=len(examples),
        passes=len(passes),
        words=sum(report.words for report in passes),
        seconds=sum(report.seconds for report in passes),
        best_score=max((report.score for report in passes if report.score is not None), default=None),
        last_loss=passes[-1].loss,
        calibration=calibration,
    )


def calibrate(pipe: Any, held: Sequence[Example], *, false_alarm_rate: float) -> CalibrationSummary | None:
    """Make the scores of one of our text categorizers probabilities; of another pipe nothing is known.

    With too few examples held back, the calibration that the pipe came with is the better one.
    """
    if not isinstance(pipe, BaseTextCategorizer) or len(held) < LEAST_TO_CALIBRATE:
        return None
    report = pipe.calibrate(held, false_alarm_rate=false_alarm_rate)
    return CalibrationSummary(
        examples=report.examples,
        ece_before=report.ece_before,
        ece_after=report.ece_after,
        false_alarms=report.false_alarms,
    )


def predict(job: PredictJob, *, warm: Warm | None = None) -> PredictReport:
    """What each model says of each text of the holdout."""
    warm = warm or Warm()
    predicted = [_predict_with(spec, job.corpus, warm) for spec in job.models]
    return PredictReport(
        rows=tuple(tuple(row for row, _ in one) for one in predicted),
        right=tuple(tuple(right for _, right in one) for one in predicted),
    )


def _predict_with(spec: PipelineSpec, corpus: Path, warm: Warm) -> Predicted:
    holdout = corpus / "holdout.jsonl"
    known = warm.recall(spec, holdout)
    if known is not None:
        return known
    pipeline = TrainablePipeline.open(spec)
    if not holdout.with_suffix(".spacy").exists():
        lines_to_docbin(pipeline.nlp, holdout, skipped=[])  # so that spacy evaluate can read it
    lines = [line for _, line in read_examples(holdout) if not isinstance(line, CorruptExample)]
    docs = pipeline.nlp.pipe((line.text for line in lines), batch_size=256)
    labels = {task: pipeline.pipe(task).labels for task in CATEGORY_TASKS if task in pipeline.tasks}
    predicted = []
    for doc, line in zip(docs, lines, strict=True):
        given = {task: scores_of(doc, own) for task, own in labels.items()}
        predicted.append((_row(pipeline, doc, given), _right(given, line)))
    warm.remember(spec, holdout, predicted)
    return predicted


def _row(pipeline: TrainablePipeline, doc: Doc, given: Given) -> PredictionRow:
    entities = None
    if "entities" in pipeline.tasks:
        entities = tuple((span.start_char, span.end_char, span.label_) for span in doc.ents)
    return likeliest(given.get("intent")), likeliest(given.get("sentiment")), entities


def _right(given: Given, gold: LabelledText) -> RightRow:
    return _share(given.get("intent"), gold.intent), _share(given.get("sentiment"), gold.sentiment)


def _share(scores: dict[str, float] | None, label: str | None) -> float | None:
    """The share of a label in what the model gives all labels of the task; None if it does not know it."""
    if scores is None or label not in scores:
        return None
    total = sum(scores.values())
    return scores[label] / total if total > 0.0 else None


def preload(job: PreloadJob, *, warm: Warm | None = None) -> PreloadReport:
    """Keep the pipeline of a folder in memory, in the place of another one."""
    if warm is not None and job.pipeline.path is not None:
        warm.keep(warm.take(job.pipeline), Path(job.pipeline.path))
    return PreloadReport()


def cross_validate(job: CrossValidateJob) -> CrossValidateReport:
    """The mean held-out score of each task over `job.folds` models trained from the start."""
    _require_corpus(job.corpus)
    by_task: dict[Task, list[float]] = {}
    for fold in range(job.folds):
        for task, score in _score_fold(job, fold).items():
            by_task.setdefault(task, []).append(score)
    return CrossValidateReport(scores={task: sum(s) / len(s) for task, s in by_task.items()})


def _score_fold(job: CrossValidateJob, fold: int) -> dict[Task, float]:
    fix_random_seed(job.settings.seed + fold)
    pipeline = TrainablePipeline.open(job.pipeline)
    docs = lines_to_docbin(pipeline.nlp, job.corpus / "train.jsonl", skipped=[])
    train_docs = [doc for position, doc in enumerate(docs) if position % job.folds != fold]
    held_docs = docs[fold :: job.folds]
    pipeline.prepare(job.labels, train_docs)
    scores: dict[Task, float] = {}
    for task in TASKS:
        if task in pipeline.trainable_tasks:
            score = _score_task(pipeline, task, train_docs, held_docs, job.settings)
            if score is not None:
                scores[task] = score
    return scores


def _score_task(
    pipeline: TrainablePipeline,
    task: Task,
    train_docs: Sequence[Doc],
    held_docs: Sequence[Doc],
    settings: TrainingSettings,
) -> float | None:
    plan = plan_of(settings, mode="full", continues=False)
    examples = pipeline.examples(task, train_docs)
    _train_task(pipeline, task, examples, (), settings, lambda _: None, [], plan=plan)
    held = pipeline.examples(task, held_docs)
    return score_pipe(task, pipeline.pipe(task), held) if held else None
