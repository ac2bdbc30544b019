"""Shadows: training those of a candidate and missing ones of the champion; their files.

A shadow only judges. It is never served, and has no backup: a cycle trains missing shadows anew. A folder has
the shadows of a version, one pipeline each, and the predictions of the judged texts.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncio_extras import call_in_executor
from pydantic import ValidationError

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curated, Curator
from karen_learner.curation.folds import fold_count, plan_folds
from karen_learner.disk import make_folder
from karen_learner.models.files import HomeLayout, move_into_place, remove_folder, replace_file, sync_folder
from karen_learner.records import CycleContext, Record, Task
from karen_learner.records.labels import Successors
from karen_learner.records.training import PipelineSpec, Predicted, TrainJob, TrainReport
from karen_learner.relabelling import relabelled_predictions
from karen_learner.settings import Settings
from karen_learner.training.base import version_spec
from karen_learner.training.corpus import JUDGED_LINES, write_corpus

logger = logging.getLogger(__name__)

INDEX = "shadows.json"
JUDGED = "judged.jsonl"
RunJob = Callable[[TrainJob, CycleContext], Awaitable[TrainReport]]


class ShadowIndex(Record):
    """The number of folds, and the tasks of each shadow.

    The masks of the `generation` describe the shadows.
    """

    folds: int
    generation: str
    tasks: tuple[Mapping[Task, str], ...]


class JudgedText(Record):
    """The prediction of a version's shadow for a judged text."""

    example_id: str
    predicted: Predicted


def shadow_folder(folder: Path, shadow: int) -> Path:
    """The pipeline of a shadow."""
    return folder / str(shadow)


def read_index(folder: Path) -> ShadowIndex | None:
    """The index of complete shadows; None if any is missing."""
    try:
        index = ShadowIndex.model_validate_json((folder / INDEX).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        logger.warning("the shadows in %s cannot be read, and are trained anew: %s", folder, error)
        return None
    complete = all((shadow_folder(folder, k) / "meta.json").is_file() for k in range(len(index.tasks)))
    return index if complete else None


def write_index(folder: Path, index: ShadowIndex) -> None:
    """Write the index of shadows: they are complete."""
    make_folder(folder)
    replace_file(folder / INDEX, index.model_dump_json().encode())


def write_judged(folder: Path, judged: Sequence[JudgedText]) -> None:
    """Write the predictions of the judged texts, without the texts."""
    make_folder(folder)
    content = "".join(one.model_dump_json() + "\n" for one in judged)
    replace_file(folder / JUDGED, content.encode())


def keep_judged(folder: Path, staging: Path) -> None:
    """Copy the predictions of the judged texts to shadows that replace those of the folder."""
    if (folder / JUDGED).is_file():
        replace_file(staging / JUDGED, (folder / JUDGED).read_bytes())


def read_judged(folder: Path, successors: Successors) -> dict[str, Predicted]:
    """The predictions by example id, with the present names of labels; empty without a readable file."""
    try:
        lines = (folder / JUDGED).read_text("utf-8").split("\n")
        judged = [JudgedText.model_validate_json(line) for line in lines if line]
        present = relabelled_predictions([one.predicted for one in judged], successors)
        return {one.example_id: predicted for one, predicted in zip(judged, present, strict=True)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("the judged texts in %s cannot be read: %s", folder, error)
        return {}


def place_shadows(staging: Path, target: Path) -> None:
    """Move complete shadows to the folder of their version. An unfinished earlier move is replaced."""
    remove_folder(target)
    sync_folder(staging)
    move_into_place(staging, target)


def prune_shadows(
    shadows: Path, *, keep: frozenset[str], judged_only: frozenset[str] = frozenset()
) -> list[str]:
    """Remove the shadows of all versions except those in `keep`. Returns the generations of these.

    Versions in `judged_only` keep the predictions of the judged texts, without the pipelines.
    """
    generations: list[str] = []
    for path in shadows.glob("*"):
        if path.name in judged_only - keep:
            _keep_only_judged(path)
        elif path.name not in keep:
            remove_folder(path)
        elif (index := read_index(path)) is not None:
            generations.append(index.generation)
    return generations


def _keep_only_judged(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == INDEX:
            path.unlink()
        elif path.is_dir():
            remove_folder(path)


logger = logging.getLogger(__name__)


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
