"""The training stage of a cycle: curated examples become a candidate. Base pipeline of new tenants."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.contracts import Analyzer, BasePipelineSource, EventPublisher, MemoryStore, TrainingBackend
from karen_learner.corpora.lines import write_lines
from karen_learner.curation import Curated, Curator
from karen_learner.events import TrainingProgressed
from karen_learner.models.backups import intact_manifest
from karen_learner.models.files import HomeLayout, move_into_place, remove_folder, sync_folder
from karen_learner.records import CycleContext, Example, ModelVersion, utc_now
from karen_learner.records.training import LabelSchema, PassReport, PipelineSpec, TrainJob
from karen_learner.settings import Settings, TrainingSettings, shipped_configs

logger = logging.getLogger(__name__)

SHIPPED = {"": "pipeline.cfg", "stock": "stock.cfg"}
"""Pipeline configs that `training.pipeline` can name: our own pipes, and spaCy's."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A candidate on disk, the examples it learned from, and the holdout that judges it.

    `base` is the pipeline of new tenants, `corpus` the folder of the cycle's data.
    """

    cycle: CycleContext
    curated: Curated
    base: PipelineSpec
    candidate: PipelineSpec
    corpus: Path
    labels: LabelSchema
    holdout: tuple[Example, ...]
    replayed: tuple[Example, ...]
    skipped_examples: int


class TrainingStage:
    """Writes the corpus of a cycle and trains the candidate on it."""

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
        """Train the candidate. Raises TrainingError or ModelError."""
        base = await self._base.spec()
        labels = await self._store.labels(cycle.tenant_id)
        job = TrainJob(
            tenant_id=cycle.tenant_id,
            mode=cycle.mode,
            pipeline=await self._parent(cycle, base),
            corpus=self._layout.corpus(cycle.tenant_id, cycle.cycle_id),
            labels={task: tuple(sorted(found)) for task, found in labels.items()},
            settings=self._settings.training,
            replay=self._settings.learning.replay_examples,
            output=self._layout.staging(cycle.tenant_id, cycle.cycle_id),
        )
        await self._write_corpus(job, curated)
        holdout = await self._write_holdout(job)
        report = await self._backend.train(job, lambda one: self._publish(cycle, one))
        if report.skipped:
            reasons = "; ".join(report.skipped_reasons)
            logger.warning("cycle %s skipped %d examples: %s", cycle.cycle_id, report.skipped, reasons)
        pool = curated.replay
        drawn = curated.importance_weights is not None
        return Trained(
            cycle=cycle,
            curated=curated,
            base=base,
            candidate=base.model_copy(update={"path": str(job.output), "tasks": report.tasks}),
            corpus=job.corpus,
            labels=job.labels,
            holdout=holdout,
            replayed=tuple(pool[line] for line in report.replayed) if drawn else pool,
            skipped_examples=report.skipped,
        )

    async def _parent(self, cycle: CycleContext, base: PipelineSpec) -> PipelineSpec:
        """The champion in an incremental cycle, `base` in a full one."""
        if cycle.mode == "incremental" and cycle.champion is not None:
            return await version_spec(cycle.champion, base)
        return base

    async def _write_corpus(self, job: TrainJob, curated: Curated) -> None:
        """Write the new examples, the replay pool and the dev split."""
        folder, weights = job.corpus, curated.importance_weights
        pool = curated.replay if weights is not None else ()
        whole = curated.new if weights is not None else (*curated.new, *curated.replay)
        await write_lines(folder / "train.jsonl", whole)
        await write_lines(folder / "replay.jsonl", pool, importance_weights=weights or ())
        await write_lines(folder / "dev.jsonl", self._curator.dev(job.tenant_id))

    async def _write_holdout(self, job: TrainJob) -> tuple[Example, ...]:
        """The holdout of this moment, written to holdout.jsonl. Later examples wait for the next cycle."""
        holdout = [example async for example in self._curator.holdout(job.tenant_id)]
        await write_lines(job.corpus / "holdout.jsonl", holdout)
        return tuple(holdout)

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


async def version_spec(version: ModelVersion, base: PipelineSpec) -> PipelineSpec:
    """The pipeline of a version with an intact digest; a damaged one is restored first. Raises ModelError."""
    manifest = await call_in_executor(intact_manifest, version)
    return base.model_copy(update={"path": str(version.path), "tasks": manifest.tasks})


def remove_old_corpora(folder: Path, *, keep: str | None, retention_days: float) -> None:
    """Remove the raw lines of all cycles (their DocBin files stay), and expired cycles."""
    for lines in folder.glob("*/*.jsonl"):
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
    await call_in_executor(sync_folder, partial)
    await call_in_executor(move_into_place, partial, folder)


def _create(folder: Path) -> None:
    remove_folder(folder)
    folder.mkdir(parents=True)
