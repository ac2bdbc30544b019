"""One learning cycle: the stages in order, journalled. It decides; the rooms compute."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from time import perf_counter

from karen_learner.curation.selection import REPLAY_POOL
from karen_learner.cycle.lease import kept, leased
from karen_learner.cycle.policy import (
    RequestedMode,
    check_mode,
    last_full_training,
    resolve_mode,
    why_not,
)
from karen_learner.cycle.stages import Rooms, Stages
from karen_learner.cycle.state import CANCELLED, PROCESS_ENDED, Course, busy, cut_off, new_cycle_id
from karen_learner.errors import FencedOut, KarenLearnerError
from karen_learner.events import CycleFinished, CycleStarted, StageStarted
from karen_learner.memory import owner_of
from karen_learner.records import (
    CycleMode,
    CycleRow,
    LearningCycleResult,
    LearningPlan,
    Lease,
    ModelVersion,
    Stage,
)

logger = logging.getLogger(__name__)

LOOKED_BACK = 200
"""Cycles in which the last full training is looked for."""


class LearningCycle:
    """Runs cycles, one a tenant at a time."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._stages = Stages(rooms)
        self._owner = owner_of(os.getpid())
        self._running: dict[asyncio.Future[None], asyncio.Task[object] | None] = {}

    async def settle(self) -> None:
        """Wait until no cycle runs here, but for one whose own listener waits."""
        caller = asyncio.current_task()
        running = [end for end, task in self._running.items() if task is not caller]
        if running:
            await asyncio.wait(running)

    async def run(
        self,
        tenant_id: str,
        *,
        mode: RequestedMode = "auto",
        force: bool = False,
        reason: str | None = None,
    ) -> LearningCycleResult:
        """Curate, train, validate, and deploy or not. A bad cycle is a result.

        Raises InvalidInput for an unknown mode, and StoreError when the journal itself cannot be
        written; what is raised carries `backup_path`. A cycle that is cancelled is journalled as failed.
        """
        check_mode(mode)
        champion = await self._rooms.registry.champion(tenant_id)
        end = asyncio.get_running_loop().create_future()
        self._running[end] = asyncio.current_task()
        try:
            async with leased(self._rooms.store, tenant_id, owner=self._owner, ttl=self._ttl) as lease:
                if lease is None:
                    return busy(tenant_id, champion, reason)
                return await self._run(lease, mode=mode, force=force, reason=reason)
        except KarenLearnerError as error:
            error.backup_path = champion.backup_path if champion else None
            raise
        finally:
            del self._running[end]
            end.set_result(None)

    async def _run(
        self, lease: Lease, *, mode: RequestedMode, force: bool, reason: str | None
    ) -> LearningCycleResult:
        tenant_id = lease.tenant_id
        try:
            async with kept(self._rooms.store, lease, ttl=self._ttl):
                await self._recover(tenant_id)
                champion = await self._rooms.registry.champion(tenant_id)
                course = Course(
                    cycle_id=new_cycle_id(), tenant_id=tenant_id,
                    mode=await self._resolved(tenant_id, mode, champion),
                    reason=reason, lease=lease, champion=champion,
                )  # fmt: skip
                return await self._journalled(course, force=force)
        except asyncio.CancelledError:
            await asyncio.shield(self._note_cancelled(lease))
            raise

    async def _note_cancelled(self, lease: Lease) -> None:
        try:
            # a write waits for the one that was under way: the deployment may have come about
            await self._rooms.store.renew_lease(lease, ttl=self._ttl)
            await self._recover(lease.tenant_id, why=CANCELLED)
        except KarenLearnerError:
            logger.exception("a cancelled cycle of %r could not be journalled", lease.tenant_id)

    @property
    def _ttl(self) -> timedelta:
        return timedelta(seconds=self._rooms.settings.learning.lease_ttl_s)

    async def recover(self, tenant_id: str) -> Sequence[str]:
        """Mark cycles that a crash cut off as interrupted and remove what they left behind.

        Returns their ids; does nothing while another process runs a cycle of this tenant.
        """
        if not await self._rooms.store.unfinished_cycles(tenant_id):
            return ()
        async with leased(self._rooms.store, tenant_id, owner=self._owner, ttl=self._ttl) as lease:
            return () if lease is None else await self._recover(tenant_id)

    async def _recover(self, tenant_id: str, *, why: str = PROCESS_ENDED) -> Sequence[str]:
        unfinished = await self._rooms.store.unfinished_cycles(tenant_id)
        champion = await self._rooms.registry.champion(tenant_id)
        for row in unfinished:
            result = cut_off(row, champion, why)
            logger.warning("cycle %s was interrupted while %s: %s", row.cycle_id, row.stage, result.status)
            await self._rooms.store.finish_cycle(tenant_id, row.cycle_id, result, stage="interrupted")
        if unfinished:
            await self._stages.tidy(tenant_id)
        return [row.cycle_id for row in unfinished]

    async def _resolved(
        self, tenant_id: str, mode: RequestedMode, champion: ModelVersion | None
    ) -> CycleMode:
        store, learning = self._rooms.store, self._rooms.settings.learning
        counts = await store.counts(tenant_id)
        learned = sum((await store.strata(tenant_id, state="learned", split="train")).values())
        return resolve_mode(
            mode,
            champion,
            examples=learned + counts.pending_train + counts.awaiting_curation,
            last_full=last_full_training(await store.cycles(tenant_id, limit=LOOKED_BACK)),
            growth=learning.full_growth,
            most=learning.max_full_examples,
        )

    async def plan(
        self, tenant_id: str, *, mode: RequestedMode = "auto", force: bool = False
    ) -> LearningPlan:
        """What `run` would do now; nothing is changed.

        The turns that await curation are counted as they would be decided, but their examples are not
        balanced or split: `training_examples` is the most that the cycle could take.
        """
        check_mode(mode)
        store, limits = self._rooms.store, self._rooms.settings.learning
        champion = await self._rooms.registry.champion(tenant_id)
        resolved = await self._resolved(tenant_id, mode, champion)
        preview = await self._rooms.curator.preview(tenant_id)
        counts = await store.counts(tenant_id)
        available = counts.pending_train + preview.accepted
        learned = sum((await store.strata(tenant_id, state="learned", split="train")).values())
        full = resolved == "full"
        why = why_not(available, learned, resolved, limits.min_data_threshold, force)
        return LearningPlan(
            tenant_id=tenant_id,
            mode=resolved,
            would_run=why is None,
            why=why or f"{available} new examples are ready",
            curation=preview,
            training_examples=min(
                available, limits.max_full_examples if full else limits.max_training_examples
            ),
            replay_examples=min(
                learned, limits.max_full_examples if full else REPLAY_POOL * limits.replay_examples
            ),
            holdout_examples=counts.holdout,
        )

    async def _journalled(self, course: Course, *, force: bool) -> LearningCycleResult:
        store, events = self._rooms.store, self._rooms.events
        row = CycleRow(
            cycle_id=course.cycle_id,
            tenant_id=course.tenant_id,
            mode=course.mode,
            reason=course.reason,
            stage="curating",
            token=course.lease.token,
            started_at=course.started_at,
        )
        await store.start_cycle(row)
        await events.publish(
            CycleStarted(
                tenant_id=course.tenant_id, cycle_id=course.cycle_id, mode=course.mode, reason=course.reason
            )
        )
        try:
            result = await self._through_stages(course, force=force)
        except FencedOut:
            raise
        except KarenLearnerError as error:
            logger.warning("cycle %s failed: %s", course.cycle_id, error)
            result = course.result("failed", error=str(error))
        except Exception as error:  # the cycle's boundary: a bad cycle is a result, with its cause
            logger.exception("cycle %s failed", course.cycle_id)
            result = course.result("failed", error=f"{type(error).__name__}: {error}")
        await store.finish_cycle(course.tenant_id, course.cycle_id, result)
        await store.renew_lease(course.lease, ttl=self._ttl)  # whoever lost it must not tidy for another
        await self._stages.tidy(course.tenant_id, keep=course.cycle_id)
        await events.publish(CycleFinished(tenant_id=course.tenant_id, result=result))
        return result

    async def _through_stages(self, course: Course, *, force: bool) -> LearningCycleResult:
        rooms = self._rooms
        async with self._stage(course, "curating"):
            course.curation = await rooms.curator.curate(course.tenant_id, token=course.lease.token)
            course.selection = await rooms.curator.select(course.tenant_id, mode=course.mode)
        minimum = rooms.settings.learning.min_data_threshold
        selection = course.selection
        why = why_not(len(selection.new), len(selection.replay), course.mode, minimum, force)
        if why is not None:
            return course.result("skipped", error=why)
        async with self._stage(course, "training"):
            report = await self._stages.train(course, selection)
        async with self._stages.loading(course, report) as loading:
            async with self._stage(course, "validating"):
                scored = await self._stages.validate(course, report)
            assert course.verdict is not None  # noqa: S101 - validating sets it
            if not course.verdict.accepted:
                return await self._stages.reject(course, course.verdict)
            async with self._stage(course, "deploying"):
                course.deployed = await self._stages.deploy(course, report, scored, await loading)
        return course.result("deployed")

    @asynccontextmanager
    async def _stage(self, course: Course, stage: Stage) -> AsyncIterator[None]:
        if stage != "curating":
            await self._rooms.store.advance_cycle(
                course.tenant_id, course.cycle_id, stage, token=course.lease.token
            )
        await self._rooms.events.publish(
            StageStarted(tenant_id=course.tenant_id, cycle_id=course.cycle_id, stage=stage)
        )
        started = perf_counter()
        try:
            yield
        finally:
            course.seconds[stage] = perf_counter() - started
