"""The stages of a cycle: each hands records to the rooms that compute, and notes what came back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curated, Curator
from karen_learner.cycle.policy import QUARANTINE_AFTER
from karen_learner.cycle.state import Course
from karen_learner.deployment import Candidate, Deployer, LoadedCandidate, headline_scores, intact_manifest
from karen_learner.events import EventBus, TrainingProgressed
from karen_learner.models.files import remove_folder
from karen_learner.models.layout import HomeLayout
from karen_learner.models.registry import ModelRegistry
from karen_learner.records import (
    TASKS,
    Example,
    LabelledText,
    LearningCycleResult,
    ModelVersion,
    Task,
    ValidationResult,
    Verdict,
    utc_now,
)
from karen_learner.settings import Settings
from karen_learner.training import (
    CrossValidateJob,
    PassReport,
    PipelineSpec,
    PredictionRow,
    PredictJob,
    RightRow,
    TrainingWorker,
    TrainJob,
    TrainReport,
    write_lines,
)
from karen_learner.validation import ModelValidator, Prediction, ScoredHoldout

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """What a cycle works with. `base` is the pipeline that new tenants start from."""

    store: MemoryStore
    registry: ModelRegistry
    curator: Curator
    worker: TrainingWorker
    validator: ModelValidator
    deployer: Deployer
    layout: HomeLayout
    settings: Settings
    events: EventBus
    base: Callable[[], Awaitable[PipelineSpec]]


class Stages:
    """Training, validation, and what follows from the verdict, for one course after another."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def train(self, course: Course, selection: Curated) -> TrainReport:
        rooms, tenant_id = self._rooms, course.tenant_id
        folder = rooms.layout.corpus(tenant_id, course.cycle_id)
        pool = selection.replay if selection.importance_weights is not None else ()
        whole = selection.new if pool else (*selection.new, *selection.replay)
        await write_lines(folder / "train.jsonl", whole)
        await write_lines(
            folder / "replay.jsonl", pool, importance_weights=selection.importance_weights or ()
        )
        await write_lines(
            folder / "unlabelled.jsonl",
            (LabelledText(text=turn.user_text or "") for turn in selection.unlabelled),
        )
        await write_lines(folder / "dev.jsonl", rooms.curator.dev(tenant_id))
        labels = await rooms.store.labels(tenant_id)
        job = TrainJob(
            tenant_id=tenant_id,
            mode=course.mode,
            pipeline=await self._parent(course),
            corpus=folder,
            labels={task: tuple(sorted(found)) for task, found in labels.items()},
            settings=rooms.settings.training,
            replay=rooms.settings.learning.replay_examples,
            output=rooms.layout.staging(tenant_id, course.cycle_id),
        )
        async with _meanwhile(self._write_holdout(course)) as holdout, self._told(course) as on_progress:
            report = await rooms.worker.train(job, on_progress)
            course.holdout = await holdout
        course.replayed = tuple(pool[line] for line in report.replayed) if pool else selection.replay
        course.self_labelled = tuple(selection.unlabelled[line] for line in report.pseudo_labelled)
        course.skipped_examples = report.skipped
        if report.skipped:
            logger.warning(
                "cycle %s left %d examples out: %s",
                course.cycle_id, report.skipped, "; ".join(report.skipped_reasons),
            )  # fmt: skip
        return report

    async def _write_holdout(self, course: Course) -> tuple[Example, ...]:
        """What the models will be judged by. Nothing that a cycle does changes it, and what comes in while it
        trains waits for the next one."""
        holdout = [example async for example in self._rooms.curator.holdout(course.tenant_id)]
        folder = self._rooms.layout.corpus(course.tenant_id, course.cycle_id)
        await write_lines(folder / "holdout.jsonl", holdout)
        return tuple(holdout)

    async def _parent(self, course: Course) -> PipelineSpec:
        """The champion for an incremental cycle, what new tenants start from for a full one."""
        base = await self._rooms.base()
        if course.mode == "incremental" and course.champion is not None:
            return await self._spec(course.champion, base)
        return base

    async def _spec(self, version: ModelVersion, base: PipelineSpec) -> PipelineSpec:
        """A version as it was sealed: damage on the disk must not be learned on from."""
        manifest = await call_in_executor(intact_manifest, version)
        return base.model_copy(update={"path": str(version.path), "tasks": manifest.tasks})

    @asynccontextmanager
    async def _told(self, course: Course) -> AsyncIterator[Callable[[PassReport], None]]:
        """A callable that publishes each pass, in order; the block ends when all have been told."""
        passes: asyncio.Queue[PassReport | None] = asyncio.Queue()
        telling = asyncio.create_task(self._tell(course, passes))
        try:
            yield passes.put_nowait
        finally:
            passes.put_nowait(None)
            await telling

    async def _tell(self, course: Course, passes: asyncio.Queue[PassReport | None]) -> None:
        while (report := await passes.get()) is not None:
            event = TrainingProgressed(
                tenant_id=course.tenant_id,
                cycle_id=course.cycle_id,
                task=report.task,
                iteration=report.iteration,
                total=report.total,
                loss=report.loss,
                words_per_second=report.words_per_second,
                seconds=report.seconds,
                score=report.score,
            )
            await self._rooms.events.publish(event)

    @asynccontextmanager
    async def loading(
        self, course: Course, report: TrainReport
    ) -> AsyncIterator[asyncio.Task[LoadedCandidate]]:
        """Load the candidate while it is judged. It is closed at the end if it was not deployed."""
        staging = self._rooms.layout.staging(course.tenant_id, course.cycle_id)
        task = asyncio.create_task(self._rooms.deployer.load(staging, report.tasks))
        try:
            yield task
        finally:
            task.add_done_callback(_close_unless_deployed)

    async def validate(self, course: Course, report: TrainReport) -> ScoredHoldout:
        rooms = self._rooms
        base = await rooms.base()
        staging = rooms.layout.staging(course.tenant_id, course.cycle_id)
        specs = [base.model_copy(update={"path": str(staging), "tasks": report.tasks})]
        if course.champion is not None:
            course.champion_spec = await self._spec(course.champion, base)
            specs.append(course.champion_spec)
        folder = rooms.layout.corpus(course.tenant_id, course.cycle_id)
        predicted = await rooms.worker.predict(
            PredictJob(tenant_id=course.tenant_id, models=tuple(specs), corpus=folder)
        )
        scored = await asyncio.gather(
            *(
                self._score(course.holdout, rows, right)
                for rows, right in zip(predicted.rows, predicted.right, strict=True)
            )
        )
        candidate, champion = scored[0], scored[1] if len(scored) > 1 else None
        course.verdict = await rooms.validator.judge(
            candidate, champion, taught=taught_tasks(course.selection)
        )
        course.baseline = champion.result if champion is not None else None
        course.validation = await self._with_estimates(course, candidate.result)
        return candidate

    async def _score(
        self, holdout: Sequence[Example], rows: Sequence[PredictionRow], right: Sequence[RightRow]
    ) -> ScoredHoldout:
        predictions = [Prediction.from_row(*both) for both in zip(rows, right, strict=True)]
        return await self._rooms.validator.score(holdout, predictions)

    async def _with_estimates(self, course: Course, result: ValidationResult) -> ValidationResult:
        """Cross-validated estimates beside a holdout that is too small to say much."""
        estimates = await self._cross_validated(course, result.counts)
        return result.model_copy(update={"cross_validated": estimates}) if estimates else result

    async def _cross_validated(
        self, course: Course, counts: Mapping[Task, int]
    ) -> Mapping[Task, float] | None:
        gate, selection = self._rooms.settings.gate, course.selection
        trained = len(selection.new) + len(selection.replay) if selection else 0
        small = any(count < gate.small_holdout for count in counts.values())
        if course.mode != "full" or not small or not 0 < trained <= gate.max_cross_validated:
            return None
        labels = await self._rooms.store.labels(course.tenant_id)
        job = CrossValidateJob(
            tenant_id=course.tenant_id,
            pipeline=await self._rooms.base(),
            corpus=self._rooms.layout.corpus(course.tenant_id, course.cycle_id),
            labels={task: tuple(sorted(found)) for task, found in labels.items()},
            settings=self._rooms.settings.training,
        )
        return (await self._rooms.worker.cross_validate(job)).scores

    async def reject(self, course: Course, verdict: Verdict) -> LearningCycleResult:
        assert course.selection is not None  # noqa: S101 - a verdict needs a selection
        await self._rooms.store.reject_examples(
            course.tenant_id,
            course.selection.new,
            harmful=verdict.harmful,
            quarantine_at=QUARANTINE_AFTER,
            token=course.lease.token,
        )
        if course.champion_spec is not None:  # what the worker has in memory is the candidate
            self._rooms.worker.preload(course.tenant_id, course.champion_spec)
        return course.result("rejected", error=verdict.summary)

    async def deploy(
        self, course: Course, report: TrainReport, scored: ScoredHoldout, loaded: LoadedCandidate
    ) -> ModelVersion:
        assert course.selection is not None  # noqa: S101 - a verdict needs a selection
        selection = course.selection
        candidate = Candidate(
            tenant_id=course.tenant_id,
            cycle_id=course.cycle_id,
            mode=course.mode,
            folder=self._rooms.layout.staging(course.tenant_id, course.cycle_id),
            tasks=report.tasks,
            counts={
                "new": len(selection.new),
                "replay": len(course.replayed),
                "self_labelled": len(course.self_labelled),
                **{f"holdout_{task}": n for task, n in scored.result.counts.items()},
            },
            scores=headline_scores(scored.result),
            parent=course.champion.version if course.champion else None,
        )
        return await self._rooms.deployer.promote(
            candidate,
            loaded,
            learned=selection.new,
            replayed=[example.example_id for example in course.replayed],
            pseudo_labelled=[turn.seq for turn in course.self_labelled if turn.seq is not None],
            token=course.lease.token,
        )

    async def tidy(self, tenant_id: str, *, keep: str | None = None) -> None:
        """Leave nothing behind that nobody needs: candidates, raw lines, what is past its time.

        Call under the lease. `keep` is the cycle whose corpora stay, however short the retention.
        """
        corpora = self._rooms.layout.corpora(tenant_id)
        days = self._rooms.settings.learning.corpus_retention_days
        try:
            await call_in_executor(lambda: tidy_corpora(corpora, keep=keep, retention_days=days))
            await self._rooms.deployer.clean_up(tenant_id)
        except OSError:
            logger.exception("what the cycles of %r left behind cannot be removed", tenant_id)


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """A task that works beside the block, which awaits it. A block that fails waits for it, too: what the
    task does in a thread cannot be cancelled, and others tidy up afterwards."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("what was done meanwhile failed: %s", error)


def _close_unless_deployed(loading: asyncio.Task[LoadedCandidate]) -> None:
    if loading.cancelled() or loading.exception() is not None:
        return
    model = loading.result().model
    if model.version is None:  # it gets one when it is deployed
        model.close()


def taught_tasks(selection: Curated | None) -> frozenset[Task]:
    """The tasks of which the new examples say something; all, where there are none (a forced refit)."""
    new = selection.new if selection is not None else ()
    return frozenset(task for example in new for task in example.tasks) or frozenset(TASKS)


def tidy_corpora(folder: Path, *, keep: str | None, retention_days: float) -> None:
    """Remove the raw lines of all cycles (their DocBin files stay), and cycles past the retention."""
    for lines in folder.glob("*/*.jsonl"):
        lines.unlink()
    oldest = utc_now().timestamp() - timedelta(days=retention_days).total_seconds()
    for path in folder.glob("*"):
        if path.is_dir() and path.name != keep and path.stat().st_mtime < oldest:
            remove_folder(path)
