"""Trains shadows: those of a candidate, and missing ones of the champion."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curated, Curator
from karen_learner.curation.folds import fold_count, plan_folds
from karen_learner.models.files import HomeLayout
from karen_learner.models.shadows import (
    ShadowIndex,
    keep_judged,
    place_shadows,
    read_index,
    shadow_folder,
    write_index,
)
from karen_learner.records import CycleContext
from karen_learner.records.training import PipelineSpec, TrainJob, TrainReport
from karen_learner.settings import Settings
from karen_learner.training.base import version_spec
from karen_learner.training.corpus import JUDGED_LINES, write_corpus

logger = logging.getLogger(__name__)

RunJob = Callable[[TrainJob, CycleContext], Awaitable[TrainReport]]


@dataclass(frozen=True, kw_only=True)
class FormerShadows:
    """The shadows of the champion; none for a first model.

    The masks of the `generation` describe them; None: they have learned none of the stored examples.
    """

    specs: tuple[PipelineSpec, ...] = ()
    generation: str | None = None


@dataclass(eq=False, repr=False)
class ShadowTraining:
    """Trains shadows one after the other. `run` runs a job of the cycle in the worker."""

    run: RunJob
    curator: Curator
    store: MemoryStore
    layout: HomeLayout
    settings: Settings

    async def train(
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
            report = await self.run(one, cycle)
            specs.append(job.pipeline.model_copy(update={"path": str(folder), "tasks": report.tasks}))
        return tuple(specs)

    async def former(self, job: TrainJob, cycle: CycleContext) -> FormerShadows:
        """The shadows of the champion. Missing ones are trained anew on its examples."""
        champion = cycle.champion
        if champion is None:
            return FormerShadows()
        folder = self.layout.shadows(cycle.tenant_id, champion.version)
        folds = fold_count(self.settings.training.validation_split)
        index = await call_in_executor(read_index, folder)
        known = index is not None and await self.store.has_masks(cycle.tenant_id, index.generation)
        if index is not None and index.folds == folds and known:
            return _former(job.pipeline, folder, index)
        learned = (await self.curator.select(cycle.tenant_id, mode="full")).replay
        if not learned:  # the champion itself has learned none of the stored examples
            spec = await version_spec(champion, job.pipeline)
            return FormerShadows(specs=(spec,) * folds)
        logger.info("the shadows of %s are missing: they are trained anew", champion.version)
        return await self._anew(job, cycle, Curated(new=learned), folder)

    async def _anew(
        self, job: TrainJob, cycle: CycleContext, learned: Curated, folder: Path
    ) -> FormerShadows:
        """Train the champion's shadows in a generation of their own, and place them in `folder`."""
        plan = await plan_folds(self.store, cycle.tenant_id, learned, settings=self.settings)
        corpus = job.corpus / "former"
        await write_corpus(corpus, learned, plan, ())
        generation = f"{cycle.cycle_id}-former"
        staging = self.layout.shadow_staging(cycle.tenant_id, generation)
        full = job.model_copy(update={"mode": "full", "corpus": corpus})
        specs = await self.train(full, cycle, (), count=plan.shadows, output=staging)
        index = ShadowIndex(
            folds=plan.folds, generation=generation, tasks=tuple(spec.tasks for spec in specs)
        )
        await self.store.store_masks(cycle.tenant_id, generation, plan.masks, token=cycle.token)
        await call_in_executor(write_index, staging, index)
        await call_in_executor(keep_judged, folder, staging)
        await call_in_executor(place_shadows, staging, folder)
        return _former(job.pipeline, folder, index)


def _former(base: PipelineSpec, folder: Path, index: ShadowIndex) -> FormerShadows:
    specs = [
        base.model_copy(update={"path": str(shadow_folder(folder, shadow)), "tasks": tasks})
        for shadow, tasks in enumerate(index.tasks)
    ]
    return FormerShadows(specs=tuple(specs), generation=index.generation)
