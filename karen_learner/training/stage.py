"""The training stage of a cycle: curated examples become a candidate, with shadows or without."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.contracts import EventPublisher, MemoryStore, TrainingBackend
from karen_learner.curation import Curated, Curator
from karen_learner.curation.folds import FoldPlan, plan_folds
from karen_learner.curation.selection import draw_learned_gold
from karen_learner.events import TrainingProgressed
from karen_learner.models.files import HomeLayout
from karen_learner.records import CycleContext, DoubtfulLabel, Example, ModelVersion, Task
from karen_learner.records.training import (
    PassReport,
    PipelineSpec,
    Predicted,
    PredictJob,
    PredictReport,
    TrainJob,
    TrainReport,
)
from karen_learner.relabelling import relabelled_predictions
from karen_learner.settings import Settings
from karen_learner.text_identity import text_key
from karen_learner.training.base import BasePipeline, version_spec
from karen_learner.training.corpus import (
    CALIBRATION,
    JUDGED_LINES,
    PROBE_LINES,
    PROBED_JUDGED_TEXTS,
    probe_texts,
    remove_corpora,
    remove_old_corpora,
    training_lines_of,
    write_corpus,
    write_update_lines,
)
from karen_learner.training.doubtful import doubtful_labels
from karen_learner.training.shadows import FormerShadows, ShadowTraining

logger = logging.getLogger(__name__)

RECENT_TEXTS = 200
"""Number of recent texts on which a candidate must agree with its shadows."""
CHECKED_GOLD = 500
"""Number of learned gold texts for which a micro-update and the champion answer."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A candidate and its shadows on disk, and the texts that judge them.

    `base` is the pipeline of new tenants, `corpus` the folder of the cycle's data. `predicted` are the
    predictions of the candidate's shadows for the judged texts, then for the `recent` texts;
    `former_predicted` are those of the champion's shadows. The candidate has not learned examples with
    `doubtful` labels.
    """

    cycle: CycleContext
    curated: Curated
    base: PipelineSpec
    candidate: PipelineSpec
    shadows: tuple[PipelineSpec, ...]
    former: FormerShadows
    folds: FoldPlan
    predicted: PredictReport
    former_predicted: PredictReport | None
    recent: tuple[str, ...]
    corpus: Path
    trained_tasks: frozenset[Task]
    replayed: tuple[Example, ...]
    skipped_examples: int
    doubtful: tuple[DoubtfulLabel, ...] = ()

    @property
    def generation(self) -> str:
        """The generation of the candidate's shadows: that of the champion's, or a new one."""
        continued = self.former.generation if self.cycle.mode == "incremental" else None
        return continued or self.cycle.cycle_id

    @property
    def probe_path(self) -> Path:
        """The recent texts, then some judged texts: the candidate itself answers for them."""
        return self.corpus / PROBE_LINES

    @property
    def probes(self) -> tuple[str, ...]:
        """The texts of `probe_path`."""
        return probe_texts(self.recent, self.folds)


@dataclass(frozen=True, kw_only=True)
class MicroUpdate:
    """A candidate that continues the served version, without shadows.

    `before` are the predictions of that version, `after` those of the candidate. They are for the learned
    `gold` texts, then for the `recent` texts that are no new examples.
    """

    cycle: CycleContext
    curated: Curated
    candidate: PipelineSpec
    gold: tuple[Example, ...]
    recent: tuple[str, ...]
    before: PredictReport
    after: PredictReport
    trained_tasks: frozenset[Task]
    replayed: tuple[Example, ...]
    skipped_examples: int

    @property
    def probes(self) -> tuple[str, ...]:
        """The recent texts and some gold texts, in the order of `after`."""
        return (*(example.text for example in self.gold), *self.recent)[self._first_probe :]

    @property
    def served(self) -> tuple[Predicted, ...]:
        """The predictions of the candidate for the `probes`."""
        return self.after.predicted[self._first_probe :]

    @property
    def _first_probe(self) -> int:
        return max(0, len(self.gold) - PROBED_JUDGED_TEXTS)


class TrainingStage:
    """Writes the corpus of a cycle, and trains the candidate and its shadows on it."""

    def __init__(
        self,
        backend: TrainingBackend,
        curator: Curator,
        store: MemoryStore,
        layout: HomeLayout,
        settings: Settings,
        *,
        base: BasePipeline,
        events: EventPublisher,
    ) -> None:
        self._backend = backend
        self._shadows = ShadowTraining(self._run, curator, store, layout, settings)
        self._store = store
        self._layout = layout
        self._settings = settings
        self._base = base
        self._events = events

    async def train(self, cycle: CycleContext, curated: Curated) -> Trained:
        """Train the shadows, then the candidate. Raises TrainingError or ModelError.

        The margins of the shadows calibrate the candidate, which learns from all examples.
        """
        job = await self._job(cycle)
        base = job.pipeline
        former = await self._shadows.former(job, cycle)
        folds = await plan_folds(
            self._store,
            cycle.tenant_id,
            curated,
            settings=self._settings,
            former_shadows=len(former.specs) or None,
            generation=former.generation,
            continues=cycle.mode == "incremental",
        )
        recent = tuple(await self._store.recent_texts(cycle.tenant_id, limit=RECENT_TEXTS))
        await write_corpus(job.corpus, curated, folds, recent)
        shadows = await self._shadows.train(
            job, cycle, former.specs, count=folds.shadows,
            output=self._layout.shadow_staging(cycle.tenant_id, cycle.cycle_id),
        )  # fmt: skip
        former_predicted = await self._predict_former(job, former.specs, folds) if former.specs else None
        predicted = await self._predict(job, shadows, folds, calibration=job.corpus / CALIBRATION)
        if cycle.mode == "incremental" and cycle.champion is not None:
            parent = await version_spec(cycle.champion, base)
            job = job.model_copy(update={"pipeline": parent})
        doubtful = doubtful_labels(folds.judged, predicted.predicted)
        left_out = training_lines_of(curated, {one.example_id for one in doubtful})
        served = {"calibration": job.corpus / CALIBRATION, "left_out": left_out}
        report = await self._run(job.model_copy(update=served), cycle)
        return Trained(
            cycle=cycle,
            curated=curated,
            base=base,
            candidate=_saved(job, report),
            shadows=shadows,
            former=former,
            folds=folds,
            predicted=predicted,
            former_predicted=former_predicted,
            recent=recent,
            corpus=job.corpus,
            trained_tasks=frozenset(report.examples),
            replayed=_replayed(curated, report),
            skipped_examples=report.skipped + sum(map(len, left_out.values())),
            doubtful=doubtful,
        )

    async def update(self, cycle: CycleContext, served: ModelVersion, curated: Curated) -> MicroUpdate:
        """Train the served version further on the new examples. Raises TrainingError or ModelError."""
        base = await self._job(cycle)
        parent = await version_spec(served, base.pipeline)
        gold = tuple(await draw_learned_gold(self._store, cycle.tenant_id, limit=CHECKED_GOLD))
        new = {example.key for example in curated.new}
        turns = await self._store.recent_texts(cycle.tenant_id, limit=RECENT_TEXTS)
        recent = tuple(text for text in turns if text_key(text) not in new)
        texts = await write_update_lines(base.corpus, curated, gold, recent)
        job = base.model_copy(update={"mode": "incremental", "pipeline": parent, "judged": texts})
        report = await self._run(job, cycle)
        candidate = _saved(job, report)
        before, after = [
            await self._backend.predict(
                PredictJob(tenant_id=cycle.tenant_id, models=(model,), texts=texts, gold=len(gold))
            )
            for model in (parent, candidate)
        ]
        return MicroUpdate(
            cycle=cycle,
            curated=curated,
            candidate=candidate,
            gold=gold,
            recent=recent,
            before=before,
            after=after,
            trained_tasks=frozenset(report.examples),
            replayed=_replayed(curated, report),
            skipped_examples=report.skipped,
        )

    async def _job(self, cycle: CycleContext) -> TrainJob:
        """The job that trains the base pipeline on the data of the cycle."""
        labels = await self._store.labels(cycle.tenant_id)
        settings = self._settings.of(cycle.tenant_id)
        return TrainJob(
            tenant_id=cycle.tenant_id,
            mode=cycle.mode,
            pipeline=await self._base.spec(),
            corpus=self._layout.corpus(cycle.tenant_id, cycle.cycle_id),
            labels={task: tuple(sorted(found)) for task, found in labels.items()},
            settings=settings.training,
            replay=settings.learning.replay_examples,
            output=self._layout.staging(cycle.tenant_id, cycle.cycle_id),
        )

    async def _predict(
        self,
        job: TrainJob,
        shadows: Sequence[PipelineSpec],
        folds: FoldPlan,
        *,
        calibration: Path | None = None,
    ) -> PredictReport:
        """The predictions of shadows for the judged texts."""
        return await self._backend.predict(
            PredictJob(
                tenant_id=job.tenant_id,
                models=tuple(shadows),
                texts=job.corpus / JUDGED_LINES,
                gold=sum(example.is_gold for example in folds.judged.examples),
                calibration=calibration,
            )
        )

    async def _predict_former(
        self, job: TrainJob, shadows: Sequence[PipelineSpec], folds: FoldPlan
    ) -> PredictReport:
        """The predictions of the champion's shadows, with the present names of labels."""
        report = await self._predict(job, shadows, folds)
        successors = await self._store.label_successors(job.tenant_id)
        return report.model_copy(update={"predicted": relabelled_predictions(report.predicted, successors)})

    async def _run(self, job: TrainJob, cycle: CycleContext) -> TrainReport:
        report = await self._backend.train(job, lambda one: self._publish(cycle, one))
        if report.skipped:
            reasons = "; ".join(report.skipped_reasons)
            logger.warning("cycle %s skipped %d examples: %s", cycle.cycle_id, report.skipped, reasons)
        return report

    def _publish(self, cycle: CycleContext, report: PassReport) -> None:
        event = TrainingProgressed(
            tenant_id=cycle.tenant_id,
            cycle_id=cycle.cycle_id,
            words_per_second=report.words / report.seconds if report.seconds > 0 else 0.0,
            **report.model_dump(exclude={"words"}),
        )
        self._events.publish(event)

    async def clean_up(self, tenant_id: str, *, keep: str | None = None) -> None:
        """Remove raw lines, and expired corpora except those of cycle `keep`. Call under the lease."""
        folder = self._layout.corpora(tenant_id)
        days = self._settings.of(tenant_id).learning.corpus_retention_days
        await call_in_executor(lambda: remove_old_corpora(folder, keep=keep, retention_days=days))

    async def remove_corpora(self, tenant_id: str) -> int:
        """Remove the corpora of all cycles; the number of files. Call under the lease."""
        removed: int = await call_in_executor(remove_corpora, self._layout.corpora(tenant_id))
        return removed


def _saved(job: TrainJob, report: TrainReport) -> PipelineSpec:
    """The pipeline that the job saved."""
    return job.pipeline.model_copy(update={"path": str(job.output), "tasks": report.tasks})


def _replayed(curated: Curated, report: TrainReport) -> tuple[Example, ...]:
    """The examples of the replay pool that the job trained on."""
    pool = curated.replay
    if curated.importance_weights is None:
        return pool
    return tuple(pool[line] for line in report.replayed)
