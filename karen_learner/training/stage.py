"""The training stage of a cycle: curated examples become a candidate. Base pipeline of new tenants."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.contracts import Analyzer, BasePipelineSource, EventPublisher, MemoryStore, TrainingBackend
from karen_learner.corpora.lines import write_lines
from karen_learner.curation import Curated, Curator
from karen_learner.curation.folds import FoldPlan, fold_count, plan_folds
from karen_learner.errors import ModelError
from karen_learner.events import TrainingProgressed
from karen_learner.models.backups import intact_manifest
from karen_learner.models.files import HomeLayout, move_into_place, remove_folder, sync_folder
from karen_learner.models.shadows import (
    ShadowIndex,
    keep_judged,
    place_shadows,
    read_index,
    shadow_folder,
    write_index,
)
from karen_learner.models.versions import labels_of
from karen_learner.private_files import make_folder, make_private
from karen_learner.records import CycleContext, Example, LabelledText, ModelVersion, Task, utc_now
from karen_learner.records.training import (
    PassReport,
    PipelineSpec,
    PredictJob,
    PredictReport,
    TrainJob,
    TrainReport,
)
from karen_learner.settings import Settings, TrainingSettings, shipped_configs

logger = logging.getLogger(__name__)

JUDGED_LINES = "judged.jsonl"
PROBE_LINES = "probe.jsonl"
CALIBRATION = "calibration"
RECENT_TEXTS = 200
"""Number of recent texts on which a candidate must agree with its shadows."""
PROBED_JUDGED_TEXTS = 20
SHIPPED = {"": "pipeline.cfg", "stock": "stock.cfg"}
"""Pipeline configs that `training.pipeline` can name: our own pipes, and spaCy's."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A candidate and its shadows on disk, and the texts that judge them.

    `base` is the pipeline of new tenants, `corpus` the folder of the cycle's data. `predicted` are the
    predictions of the candidate's shadows for the judged texts, then for the `recent` texts;
    `former_predicted` are those of the champion's shadows.
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

    @property
    def generation(self) -> str:
        """The generation of the candidate's shadows: that of the champion's, or a new one."""
        continued = self.former.generation if self.cycle.mode == "incremental" else None
        return continued or self.cycle.cycle_id

    @property
    def judged_path(self) -> Path:
        """The judged texts, then the recent texts, with the shadow of each."""
        return self.corpus / JUDGED_LINES

    @property
    def probe_path(self) -> Path:
        """The recent texts, then some judged texts: the candidate itself answers for them."""
        return self.corpus / PROBE_LINES

    @property
    def probes(self) -> tuple[str, ...]:
        """The texts of `probe_path`."""
        return probe_texts(self.recent, self.folds)


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
        self._curator = curator
        self._store = store
        self._layout = layout
        self._settings = settings
        self._base = base
        self._events = events

    async def train(self, cycle: CycleContext, curated: Curated) -> Trained:
        """Train the shadows, then the candidate. Raises TrainingError or ModelError.

        The margins of the shadows calibrate the candidate, which learns from all examples.
        """
        base = await self._base.spec()
        labels = await self._store.labels(cycle.tenant_id)
        job = TrainJob(
            tenant_id=cycle.tenant_id,
            mode=cycle.mode,
            pipeline=base,
            corpus=self._layout.corpus(cycle.tenant_id, cycle.cycle_id),
            labels={task: tuple(sorted(found)) for task, found in labels.items()},
            settings=self._settings.training,
            replay=self._settings.learning.replay_examples,
            output=self._layout.staging(cycle.tenant_id, cycle.cycle_id),
        )
        former = await self._former_shadows(job, cycle)
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
        await self._write_corpus(job.corpus, curated, folds, recent)
        shadows = await self._train_shadows(
            job, cycle, former.specs, count=folds.shadows,
            output=self._layout.shadow_staging(cycle.tenant_id, cycle.cycle_id),
        )  # fmt: skip
        former_predicted = await self._predict(job, former.specs, folds) if former.specs else None
        predicted = await self._predict(job, shadows, folds, calibration=job.corpus / CALIBRATION)
        if cycle.mode == "incremental" and cycle.champion is not None:
            parent = await version_spec(cycle.champion, base)
            job = job.model_copy(update={"pipeline": parent})
        report = await self._run(job.model_copy(update={"calibration": job.corpus / CALIBRATION}), cycle)
        pool = curated.replay
        drawn = curated.importance_weights is not None
        return Trained(
            cycle=cycle,
            curated=curated,
            base=base,
            candidate=base.model_copy(update={"path": str(job.output), "tasks": report.tasks}),
            shadows=shadows,
            former=former,
            folds=folds,
            predicted=predicted,
            former_predicted=former_predicted,
            recent=recent,
            corpus=job.corpus,
            trained_tasks=frozenset(report.examples),
            replayed=tuple(pool[line] for line in report.replayed) if drawn else pool,
            skipped_examples=report.skipped,
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

    async def _run(self, job: TrainJob, cycle: CycleContext) -> TrainReport:
        report = await self._backend.train(job, lambda one: self._publish(cycle, one))
        if report.skipped:
            reasons = "; ".join(report.skipped_reasons)
            logger.warning("cycle %s skipped %d examples: %s", cycle.cycle_id, report.skipped, reasons)
        return report

    async def _former_shadows(self, job: TrainJob, cycle: CycleContext) -> FormerShadows:
        """The shadows of the champion. Missing ones are trained anew on its examples."""
        champion = cycle.champion
        if champion is None:
            return FormerShadows()
        folder = self._layout.shadows(cycle.tenant_id, champion.version)
        folds = fold_count(self._settings.training.validation_split)
        index = await call_in_executor(read_index, folder)
        known = index is not None and await self._store.has_masks(cycle.tenant_id, index.generation)
        if index is not None and index.folds == folds and known:
            return _former(job.pipeline, folder, index)
        learned = (await self._curator.select(cycle.tenant_id, mode="full")).replay
        if not learned:  # the champion itself has learned none of the stored examples
            spec = await version_spec(champion, job.pipeline)
            return FormerShadows(specs=(spec,) * folds)
        logger.info("the shadows of %s are missing: they are trained anew", champion.version)
        former = Curated(new=learned)
        plan = await plan_folds(self._store, cycle.tenant_id, former, settings=self._settings)
        corpus = job.corpus / "former"
        await self._write_corpus(corpus, former, plan, ())
        staging = self._layout.shadow_staging(cycle.tenant_id, f"{cycle.cycle_id}-former")
        anew = job.model_copy(update={"mode": "full", "corpus": corpus})
        specs = await self._train_shadows(anew, cycle, (), count=plan.shadows, output=staging)
        generation = f"{cycle.cycle_id}-former"
        index = ShadowIndex(
            folds=plan.folds, generation=generation, tasks=tuple(spec.tasks for spec in specs)
        )
        await self._store.store_masks(cycle.tenant_id, generation, plan.masks, token=cycle.token)
        await call_in_executor(write_index, staging, index)
        await call_in_executor(keep_judged, folder, staging)
        await call_in_executor(place_shadows, staging, folder)
        return _former(job.pipeline, folder, index)

    async def _train_shadows(
        self,
        job: TrainJob,
        cycle: CycleContext,
        former: Sequence[PipelineSpec],
        *,
        count: int,
        output: Path,
    ) -> tuple[PipelineSpec, ...]:
        """Train `count` shadows below `output`. In an incremental cycle they continue the `former` ones."""
        specs: list[PipelineSpec] = []
        for shadow in range(count):
            parent = former[shadow] if job.mode == "incremental" else job.pipeline
            folder = shadow_folder(output, shadow)
            one = job.model_copy(
                update={
                    "shadow": shadow,
                    "pipeline": parent,
                    "output": folder,
                    "stays_in_memory": count == 1,
                    "judged": job.corpus / JUDGED_LINES,
                }
            )
            report = await self._run(one, cycle)
            specs.append(job.pipeline.model_copy(update={"path": str(folder), "tasks": report.tasks}))
        return tuple(specs)

    async def _write_corpus(
        self, folder: Path, curated: Curated, folds: FoldPlan, recent: Sequence[str]
    ) -> None:
        """Write the new examples, the replay pool, and the judged and recent texts."""
        weights = curated.importance_weights
        pool = curated.replay if weights is not None else ()
        whole = curated.new if weights is not None else (*curated.new, *curated.replay)
        held_out = folds.held_out
        await write_lines(folder / "train.jsonl", whole, held_out=[held_out[one.example_id] for one in whole])
        await write_lines(
            folder / "replay.jsonl",
            pool,
            held_out=[held_out[one.example_id] for one in pool],
            importance_weight=weights or (),
        )
        turns = [LabelledText(text=text) for text in recent]
        judged = folds.judged
        by_turn = [at % folds.shadows for at in range(len(turns))]
        await write_lines(
            folder / JUDGED_LINES, [*judged.examples, *turns], shadow=[*judged.shadows, *by_turn]
        )
        await write_lines(
            folder / PROBE_LINES, [LabelledText(text=text) for text in probe_texts(recent, folds)]
        )

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
        days = self._settings.learning.corpus_retention_days
        await call_in_executor(lambda: remove_old_corpora(folder, keep=keep, retention_days=days))


def probe_texts(recent: Sequence[str], folds: FoldPlan) -> tuple[str, ...]:
    """The recent texts, then some judged texts."""
    return (*recent, *(example.text for example in folds.judged.examples[:PROBED_JUDGED_TEXTS]))


async def known_labels(version: ModelVersion | None) -> frozenset[tuple[Task, str]] | None:
    """The labels that a version knows; None without a version, and for one without readable files."""
    if version is None:
        return None
    try:
        manifest = await call_in_executor(intact_manifest, version)
        labels: frozenset[tuple[Task, str]] = await call_in_executor(labels_of, version.path, manifest.tasks)
    except ModelError as error:
        logger.warning("the labels of %s are unknown: %s", version.version, error)
        return None
    return labels


@dataclass(frozen=True, kw_only=True)
class FormerShadows:
    """The shadows of the champion; none for a first model.

    The masks of the `generation` describe them; None: they have learned none of the stored examples.
    """

    specs: tuple[PipelineSpec, ...] = ()
    generation: str | None = None


def _former(base: PipelineSpec, folder: Path, index: ShadowIndex) -> FormerShadows:
    specs = [
        base.model_copy(update={"path": str(shadow_folder(folder, shadow)), "tasks": tasks})
        for shadow, tasks in enumerate(index.tasks)
    ]
    return FormerShadows(specs=tuple(specs), generation=index.generation)


async def version_spec(version: ModelVersion, base: PipelineSpec) -> PipelineSpec:
    """The pipeline of a version with an intact digest; a damaged one is restored first. Raises ModelError."""
    manifest = await call_in_executor(intact_manifest, version)
    return base.model_copy(update={"path": str(version.path), "tasks": manifest.tasks})


def remove_old_corpora(folder: Path, *, keep: str | None, retention_days: float) -> None:
    """Remove the raw lines of all cycles (their DocBin files stay), and expired cycles."""
    for lines in folder.rglob("*.jsonl"):
        lines.unlink()
    oldest = utc_now().timestamp() - timedelta(days=retention_days).total_seconds()
    for path in folder.glob("*"):
        if path.is_dir() and path.name != keep and path.stat().st_mtime < oldest:
            remove_folder(path)


class BasePipeline:
    """The base pipeline, resolved at first use.

    A pipeline in memory or in an installed package is written below `home`. The worker loads from files, and
    an upgrade of the package must not change full training.
    """

    def __init__(self, analyzer: Analyzer, layout: HomeLayout, settings: TrainingSettings) -> None:
        self._analyzer = analyzer
        self._layout = layout
        self._settings = settings
        self._lock = asyncio.Lock()
        self._spec: PipelineSpec | None = None

    async def spec(self) -> PipelineSpec:
        """The pipeline of a tenant without champion. Raises ModelError."""
        async with self._lock:
            if self._spec is None:
                self._spec = await self._resolve()
            return self._spec

    async def _resolve(self) -> PipelineSpec:
        settings = self._settings
        name = settings.pipeline
        template = shipped_configs() / SHIPPED[name] if name in SHIPPED else Path(name)
        source = self._analyzer
        if not isinstance(source, BasePipelineSource) or (info := await source.base_pipeline()) is None:
            return PipelineSpec(template=template, language=settings.language)
        folder = self._layout.base(info.version or "base")
        if not folder.is_dir():
            await _write(source, folder)
        return PipelineSpec(path=str(folder), tasks=info.tasks, template=template, language=info.language)


async def _write(source: BasePipelineSource, folder: Path) -> None:
    partial = folder.with_name(folder.name + ".partial")
    await call_in_executor(_create, partial)
    await source.write_base_pipeline(partial)
    await call_in_executor(make_private, partial)
    await call_in_executor(sync_folder, partial)
    await call_in_executor(move_into_place, partial, folder)


def _create(folder: Path) -> None:
    remove_folder(folder)
    make_folder(folder)
