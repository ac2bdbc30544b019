"""Handlers of jobs: plain functions for the worker, and for tests in any process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import fix_random_seed

from karen_learner.corpora.docbin import write_docs
from karen_learner.errors import TrainingError
from karen_learner.records import CycleMode, Record, Task
from karen_learner.records.training import (
    PassReport,
    PredictJob,
    PreloadJob,
    PreloadReport,
    TrainJob,
    TrainReport,
)
from karen_learner.settings import TrainingSettings
from karen_learner.training.cache import WorkerCache
from karen_learner.training.pipelines import TrainablePipeline
from karen_learner.training.prediction import output_of, predict, texts_of_shadow
from karen_learner.training.protocol import Job
from karen_learner.training.replay import Weighted, sample_replay, training_examples
from karen_learner.training.shadow_margins import calibrate
from karen_learner.training.trainer import PipeTrainer, plan_of

OnPass = Callable[[PassReport], None]
MAX_REASONS = 20
REPORTS = 20
"""Reports of one pipe at most, besides the first."""
WORDS_PER_REPORT = 1_000
"""Words of a report at least, if there are more passes than reports: fewer take as long as its message."""


def perform(job: Job, on_pass: OnPass, *, cache: WorkerCache | None = None) -> Record:
    """Do a job of any kind. Raises TrainingError or ModelError."""
    if isinstance(job, TrainJob):
        return train(job, on_pass, cache=cache)
    if isinstance(job, PredictJob):
        return predict(job, cache=cache)
    return preload(job, cache=cache)


def train(job: TrainJob, on_pass: OnPass, *, cache: WorkerCache | None = None) -> TrainReport:
    """Train every task that has examples, and save the model to `job.output`."""
    cache = cache or WorkerCache()
    fix_random_seed(job.settings.seed)  # the same data give the same weights and dropout
    _require_corpus(job.corpus)
    pipeline = cache.take(job.pipeline)
    nlp, skipped = pipeline.nlp, list[str]()
    new_by_line, pool = (
        _docs(job, name, nlp, cache, skipped=skipped) for name in ("train.jsonl", "replay.jsonl")
    )
    new = list(new_by_line.values())
    judged = texts_of_shadow(job.judged, job.shadow or 0, cache) if job.judged is not None else []
    continued = set(pipeline.tasks) if job.mode == "incremental" else set()
    if judged and continued:
        cache.outputs(job.pipeline, judged, lambda: output_of(pipeline, judged))
    pipeline.prepare(job.labels, [*new, *pool.values()])
    if job.shadow is None and not pipeline.trainable_tasks:
        raise TrainingError(
            "too few labels to train: add examples of two intents, two sentiments or one entity label"
        )
    # All pipes draw replay before the first of them is trained.
    replayed = _sample_replay(pipeline, job, list(pool.values()))
    drawn = {doc for docs in replayed.values() for doc, _ in docs}
    lines = tuple(line for line, doc in pool.items() if doc in drawn)
    if job.shadow is None:
        write_docs(job.corpus / "train.spacy", [*new, *(pool[line] for line in lines)])
    trained: dict[Task, int] = {}
    for task in pipeline.trainable_tasks:
        if examples := training_examples(pipeline, task, new, replayed[task]):
            trainer = _trainer(pipeline, task, job.settings, mode=job.mode, continues=task in continued)
            for one in reported(trainer.passes(examples)):
                on_pass(one.model_copy(update={"shadow": job.shadow}))
            trained[task] = len(examples)
            skipped += trainer.skipped
    if job.calibration is not None:
        calibrate(pipeline, job.calibration, false_alarm_rate=job.settings.false_alarm_rate)
    pipeline.save(job.output)
    if judged:
        saved = job.pipeline.model_copy(update={"path": str(job.output), "tasks": pipeline.tasks})
        cache.outputs(saved, judged, lambda: output_of(pipeline, judged))
    report = TrainReport(
        tasks=dict(pipeline.tasks),
        examples=trained,
        replayed=lines,
        skipped=len(skipped),
        skipped_reasons=tuple(dict.fromkeys(skipped))[:MAX_REASONS],
    )
    if job.stays_in_memory:
        cache.keep(pipeline, job.output, is_shadow=job.shadow is not None)
    else:
        cache.release(pipeline)  # it loses its pipes and tasks
    return report


def reported(passes: Iterable[PassReport]) -> Iterator[PassReport]:
    """The first pass, the last one, and at most `REPORTS` of all. Words and seconds include those between."""
    words, seconds, reported_pass = 0, 0.0, 0
    for one in passes:
        words, seconds = words + one.words, seconds + one.seconds
        before, now = ((done * REPORTS) // one.total for done in (reported_pass, one.iteration))
        enough = words >= WORDS_PER_REPORT or one.total <= REPORTS
        if one.iteration in (1, one.total) or (now > before and enough):
            yield one.model_copy(update={"words": words, "seconds": seconds})
            words, seconds, reported_pass = 0, 0.0, one.iteration


def _docs(
    job: TrainJob, name: str, nlp: Language, cache: WorkerCache, *, skipped: list[str]
) -> dict[int, Doc]:
    """The documents of a file of the corpus, by line, without those that the job leaves out."""
    docs = cache.docs(nlp, job.corpus / name, skipped=skipped, shadow=job.shadow)
    left_out = set(job.left_out.get(name, ()))
    return {line: doc for line, doc in docs.items() if line not in left_out}


def _require_corpus(corpus: Path) -> None:
    if not (corpus / "train.jsonl").is_file():
        raise TrainingError(f"no training corpus: {corpus / 'train.jsonl'} does not exist")


def _sample_replay(
    pipeline: TrainablePipeline, job: TrainJob, pool: Sequence[Doc]
) -> dict[Task, list[Weighted]]:
    rng = random.Random(job.settings.seed)  # noqa: S311 - a seeded draw, no secret
    return {
        task: sample_replay(pipeline.pipe(task), pipeline.labelled(task, pool), budget=job.replay, rng=rng)
        for task in pipeline.trainable_tasks
    }


def _trainer(
    pipeline: TrainablePipeline, task: Task, settings: TrainingSettings, *, mode: CycleMode, continues: bool
) -> PipeTrainer:
    plan = plan_of(settings, mode=mode, continues=continues)
    rng = random.Random(settings.seed)  # noqa: S311 - a seeded shuffle, no secret
    return PipeTrainer(pipeline.nlp, task, pipeline.tasks[task], settings=settings, plan=plan, rng=rng)


def preload(job: PreloadJob, *, cache: WorkerCache | None = None) -> PreloadReport:
    """Replace the cached pipeline by that of a folder."""
    if cache is not None and job.pipeline.path is not None:
        cache.keep(cache.take(job.pipeline), Path(job.pipeline.path))
    return PreloadReport()
