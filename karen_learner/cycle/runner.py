"""The runner of learning cycles: orders the stages, journals them, holds and renews the lease."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import timedelta
from time import perf_counter

from asyncio_extras import call_in_executor

from karen_learner.contracts import Clock, EventPublisher, MemoryStore
from karen_learner.curation import Curated, Curator
from karen_learner.cycle.policy import (
    FEWEST_APART,
    CyclePlanner,
    RequestedMode,
    check_mode,
    examples_apart,
    newer_examples,
    skip_reason,
    trainable_tasks,
    undecided_examples,
)
from karen_learner.cycle.state import (
    CANCELLED,
    PROCESS_ENDED,
    CycleState,
    existing_backup,
    interrupted_result,
    skipped_result,
)
from karen_learner.deployment import Blank, Deployer
from karen_learner.disk import FULL_BYTES, bytes_text, free_bytes, free_text, is_about_space
from karen_learner.errors import (
    FencedOut,
    KarenLearnerError,
    StoreError,
    StoreLocked,
    TrainingError,
    without_message,
)
from karen_learner.events import CycleFinished, CycleStarted, StageStarted
from karen_learner.memory import owner_of
from karen_learner.memory.leases import hold_lease, renewing
from karen_learner.models.backups import is_lost
from karen_learner.models.files import folder_bytes
from karen_learner.models.versions import ModelRegistry
from karen_learner.records import (
    CycleContext,
    CycleRow,
    CycleStatus,
    LearningCycleResult,
    Lease,
    ModelVersion,
    PruneReport,
    Stage,
    utc_now,
)
from karen_learner.settings import LearningSettings
from karen_learner.training.base import known_labels
from karen_learner.training.stage import Trained, TrainingStage
from karen_learner.validation.stage import ValidationStage

logger = logging.getLogger(__name__)

RETURNED: tuple[CycleStatus, ...] = ("skipped", "rejected", "deployed", "failed")
"""Of the results of two cycles, the one with the later status here is returned."""
NO_SPACE = ("No space left on device", "disk is full")
"""In texts of errors, because only the texts of the worker's errors reach this process."""


@dataclass(eq=False, repr=False)
class LearningCycle:
    """Runs cycles, one at a time for each tenant.

    A cycle whose gates decide confirms a provisional version, or ends it.
    """

    store: MemoryStore
    registry: ModelRegistry
    planner: CyclePlanner
    curator: Curator
    training: TrainingStage
    validation: ValidationStage
    deployer: Deployer
    settings: LearningSettings
    events: EventPublisher
    clock: Clock = utc_now
    _running: dict[asyncio.Future[None], asyncio.Task[object] | None] = field(
        default_factory=dict, init=False
    )

    @property
    def _ttl(self) -> timedelta:
        return timedelta(seconds=self.settings.lease_ttl_s)

    async def wait(self) -> None:
        """Wait until no cycle of this process runs, except that of the calling task."""
        caller = asyncio.current_task()
        if ends := [end for end, task in self._running.items() if task is not caller]:
            await asyncio.wait(ends)

    async def run_cycle(
        self,
        tenant_id: str,
        *,
        mode: RequestedMode = "auto",
        force: bool = False,
        reason: str | None = None,
        replace: bool = False,
    ) -> LearningCycleResult:
        """Curate, train, validate, and deploy or reject. A bad cycle is a result.

        After a cycle on new labels, a second one decides about the examples that waited for it. Of the two
        results, a failed one is returned, else the last deployed one, else a rejected one.

        If the files and the backup of the champion are lost, a full training replaces it without a gate. It
        learns the examples of the lost version. With `replace`, also if the files are intact but cannot be
        loaded.

        Raises InvalidInput for an unknown mode, and StoreError if the journal cannot be written; errors carry
        `backup_path`. A cancelled cycle is journalled as failed.
        """
        check_mode(mode)
        champion = await self.registry.champion(tenant_id)
        end = asyncio.get_running_loop().create_future()
        self._running[end] = asyncio.current_task()
        try:
            async with hold_lease(self.store, tenant_id, owner=owner_of(os.getpid()), ttl=self._ttl) as lease:
                if lease is None:
                    held = await self.store.lease(tenant_id)
                    return skipped_result(tenant_id, champion, reason, held)
                result = await self._run(lease, mode=mode, force=force, reason=reason, replace=replace)
                least = FEWEST_APART if force else self.settings.min_data_threshold
                if examples_apart(result) < least:
                    return result
                others = await self._run(lease, mode=mode, force=force, reason=reason)
                return max(others, result, key=lambda one: RETURNED.index(one.status))
        except KarenLearnerError as error:
            error.backup_path = existing_backup(champion)
            raise
        finally:
            del self._running[end]
            end.set_result(None)

    async def _run(
        self,
        lease: Lease,
        *,
        mode: RequestedMode,
        force: bool,
        reason: str | None,
        replace: bool = False,
    ) -> LearningCycleResult:
        tenant_id = lease.tenant_id
        try:
            async with renewing(self.store, lease, ttl=self._ttl):
                await self._recover(tenant_id)
                champion = await self.registry.champion(tenant_id)
                provisional = await self.registry.provisional(tenant_id)
                lost = await _lost_version(champion, replace=replace)
                champion = champion if lost is None else None
                changed = await self.planner.changed_meanings(tenant_id) if mode != "micro" else ()
                cycle = CycleContext(
                    tenant_id=tenant_id,
                    mode=await self.planner.mode(
                        tenant_id, mode, champion, provisional, forgets=bool(changed)
                    ),
                    changed_meanings=changed,
                    reason=reason,
                    token=lease.token,
                    champion=champion,
                    provisional=provisional,
                    lost=lost,
                    started_at=self.clock(),
                )
                return await self._journalled(cycle, lease, force=force or lost is not None)
        except asyncio.CancelledError:
            await asyncio.shield(self._journal_cancelled(lease))
            raise

    async def _journal_cancelled(self, lease: Lease) -> None:
        try:
            # this write waits for an unfinished one: the deployment may be committed
            await self.store.renew_lease(lease, ttl=self._ttl)
            await self._recover(lease.tenant_id, reason=CANCELLED)
        except KarenLearnerError:
            logger.exception("a cancelled cycle of %r cannot be journalled", lease.tenant_id)

    async def clear_abandoned(self, tenant_id: str) -> None:
        """Remove the candidates of crashed cycles, which may have filled the disk. Needs no write.

        Does nothing while a process runs a cycle of this tenant.
        """
        if await self.store.lease(tenant_id) is None:
            await self.deployer.clear_staging(tenant_id)

    async def recover(self, tenant_id: str) -> None:
        """Journal cycles of a crashed process as interrupted, and remove their files.

        Does nothing while another process runs a cycle of this tenant.
        """
        if not await self.store.unfinished_cycles(tenant_id):
            return
        async with hold_lease(self.store, tenant_id, owner=owner_of(os.getpid()), ttl=self._ttl) as lease:
            if lease is not None:
                await self._recover(tenant_id)

    async def prune(self, tenant_id: str, *, dry_run: bool) -> PruneReport:
        """Remove the files beyond retention. Raises StoreLocked while a cycle runs.

        With `dry_run` nothing changes.
        """
        if dry_run:
            return PruneReport(done=False, removed=tuple(await self.deployer.removable(tenant_id)))
        async with hold_lease(self.store, tenant_id, owner=owner_of(os.getpid()), ttl=self._ttl) as lease:
            if lease is None:
                raise StoreLocked(f"a cycle of {tenant_id!r} is running: prune after it has ended")
            await self._recover(tenant_id)
            removed = tuple(await self.deployer.removable(tenant_id))
            await self._clean_up(tenant_id)
        return PruneReport(done=True, removed=removed)

    async def remove_corpora(self, tenant_id: str) -> int | None:
        """Remove all training texts on disk; the number of files. None while a cycle uses them."""
        async with hold_lease(self.store, tenant_id, owner=owner_of(os.getpid()), ttl=self._ttl) as lease:
            if lease is None:
                return None
            await self._recover(tenant_id)
            return await self.training.remove_corpora(tenant_id)

    async def _recover(self, tenant_id: str, *, reason: str = PROCESS_ENDED) -> None:
        unfinished = await self.store.unfinished_cycles(tenant_id)
        serving = await self.registry.serving(tenant_id)
        for row in unfinished:
            result = interrupted_result(row, serving, reason)
            logger.warning("cycle %s was interrupted while %s: %s", row.cycle_id, row.stage, result.status)
            await self.store.finish_cycle(tenant_id, row.cycle_id, result, stage="interrupted")
        if unfinished:
            await self._clean_up(tenant_id)

    async def _clean_up(self, tenant_id: str, *, keep: str | None = None) -> None:
        """Remove files that no cycle and no version needs. Call under the lease."""
        try:
            await self.training.clean_up(tenant_id, keep=keep)
            await self.deployer.clean_up(tenant_id, keep_corpus=keep)
        except (OSError, StoreLocked):  # the next clean-up tries again
            logger.exception("files of finished cycles of %r cannot be removed", tenant_id)

    async def _journalled(self, cycle: CycleContext, lease: Lease, *, force: bool) -> LearningCycleResult:
        row = CycleRow(
            **cycle.model_dump(exclude={"champion", "provisional", "lost", "changed_meanings"}),
            stage="curating",
        )
        await self.store.start_cycle(row)
        self.events.publish(
            CycleStarted(
                tenant_id=cycle.tenant_id, cycle_id=cycle.cycle_id, mode=cycle.mode, reason=cycle.reason
            )
        )
        state = CycleState(cycle=cycle)
        try:
            result = await self._run_stages(state, force=force)
        except FencedOut:
            raise
        except KarenLearnerError as error:
            logger.warning("cycle %s failed: %s", cycle.cycle_id, error)
            result = await self._failed(state, error, str(error))
        except Exception as error:  # the boundary of a cycle: an error becomes a result
            logger.exception("cycle %s failed", cycle.cycle_id)
            result = await self._failed(state, error, without_message(error))
        # before the journal, which may need the space; the next start need not look for it then
        await self.deployer.clear_staging(cycle.tenant_id, cycle_id=cycle.cycle_id)
        await self.store.finish_cycle(cycle.tenant_id, cycle.cycle_id, result)
        await self.store.renew_lease(lease, ttl=self._ttl)  # only the holder may clean up
        await self._clean_up(cycle.tenant_id, keep=cycle.cycle_id)
        self.events.publish(CycleFinished(tenant_id=cycle.tenant_id, result=result))
        return result

    async def _require_space(self, cycle: CycleContext) -> None:
        """Raise TrainingError if the disk has no room for another version with its shadows and backup."""
        layout, champion = self.deployer.layout, cycle.champion
        needed = FULL_BYTES
        if champion is not None:
            model, shadows = champion.path, layout.shadows(cycle.tenant_id, champion.version)
            needed += await call_in_executor(lambda: 2 * folder_bytes(model) + folder_bytes(shadows))
        if await call_in_executor(free_bytes, layout.home) < needed:
            raise TrainingError(f"the disk is full: a candidate needs about {bytes_text(needed)}")

    async def _failed(self, state: CycleState, error: Exception, message: str) -> LearningCycleResult:
        """The result of a failed cycle."""
        home = self.deployer.layout.home
        if is_about_space(error) or any(words in message for words in NO_SPACE):
            message += f" ({await call_in_executor(free_text, home)}; `karen-learner prune` frees some)"
        return state.result("failed", error=message)

    async def _run_stages(self, state: CycleState, *, force: bool) -> LearningCycleResult:
        cycle = state.cycle
        async with self._stage(state, "curating"):
            selected = await self._select(state)
            last = await self.planner.last_decision(cycle.tenant_id)
            harmful = await self.planner.harmful_decisions(cycle.tenant_id)
            undecided = await self.planner.is_of_micro_update(cycle.provisional)
            if cycle.lost is not None:
                selected = selected.without_a_gate()
            state.pending = len(selected.new)
            state.curated = curated = await self._with_labels_apart(cycle, selected, last)
        reason = skip_reason(
            len(selected.new),
            len(selected.replay),
            cycle.mode,
            1 if undecided else self.settings.min_data_threshold,
            force,
            undecided=undecided_examples(last, selected.new, harmful=harmful),
        )
        if reason is not None:
            ended = "" if selected.new else await self._end_provisional(state)
            return state.result("skipped", error=f"{reason}{ended}")
        if cycle.mode == "micro" and cycle.champion is not None:
            new = newer_examples(last, selected.new)
            parent = cycle.provisional or cycle.champion
            return await self._run_update(state, parent, replaced(selected, new=new))
        await self._require_space(cycle)
        blank = self.deployer.prepare(cycle.tenant_id)
        async with self._stage(state, "training"):
            state.trained = trained = await self.training.train(cycle, curated)
        return await self._validate_and_deploy(state, trained, blank, undecided=undecided)

    async def _select(self, state: CycleState) -> Curated:
        """Curate the turns with new feedback, then select the data of the cycle."""
        cycle = state.cycle
        counts = await self.curator.curate(cycle.tenant_id, token=cycle.token)
        state.curated = Curated(counts=counts)
        batches = 1 + await self.planner.rejections(cycle.tenant_id)
        found = await self.curator.select(cycle.tenant_id, mode=cycle.mode, batches=batches)
        selected = replaced(found, counts=counts)
        if cycle.changed_meanings:
            outdated = await self.curator.outdated(cycle.tenant_id)
            state.outdated = tuple(one for several in outdated.values() for one in several)
            selected = selected.renewed(one.renewed for one in state.outdated)
        return selected

    async def _validate_and_deploy(
        self, state: CycleState, trained: Trained, blank: Blank, *, undecided: bool
    ) -> LearningCycleResult:
        """Judge the candidate, and deploy or reject it. It loads meanwhile."""
        async with self.deployer.loading(trained.candidate, blank) as loading:
            async with self._stage(state, "validating"):
                state.validated = validated = await self.validation.validate(trained)
                state.verdict = validated.verdict
            if validated.verdict.decision == "provisional":
                async with self._stage(state, "deploying"):
                    state.deployed = await self.deployer.deploy_provisional(
                        trained, validated.served, await loading
                    )
                    await self._store_renewed(state, learned_in=None)
                return state.result("deployed")
            if not validated.verdict.accepted:
                state.quarantined = await self.validation.reject(validated)
                ended = await self._end_provisional(state) if undecided else ""
                return state.result("rejected", error=f"{validated.verdict.summary}{ended}")
            async with self._stage(state, "deploying"):
                state.deployed = await self.deployer.deploy(validated, await loading)
                await self._store_renewed(state, learned_in=state.deployed.version.version)
        return state.result("deployed")

    async def _store_renewed(self, state: CycleState, *, learned_in: str | None) -> None:
        """Store the meanings that a deployed version has learned; after a failure the next cycle does."""
        tenant_id, token = state.cycle.tenant_id, state.cycle.token
        try:
            if state.outdated:
                await self.curator.store_renewed(
                    tenant_id, state.outdated, learned_in=learned_in, token=token
                )
        except StoreError:
            logger.exception("present meanings of examples of %r are not stored", tenant_id)

    async def _run_update(
        self, state: CycleState, parent: ModelVersion, curated: Curated
    ) -> LearningCycleResult:
        """Train the served model alone. Unless harm is shown, it serves until the next decision."""
        state.curated = curated
        if not curated.new:
            return state.result("skipped", error="no example is newer than the last decision")
        blank = self.deployer.prepare(state.cycle.tenant_id)
        async with self._stage(state, "training"):
            state.trained = update = await self.training.update(state.cycle, parent, curated)
        async with self.deployer.loading(update.candidate, blank) as loading:
            async with self._stage(state, "validating"):
                state.verdict = verdict = await self.validation.judge_update(update)
            if not verdict.accepted:
                return state.result("rejected", error=verdict.summary)
            async with self._stage(state, "deploying"):
                state.deployed = await self.deployer.deploy_provisional(update, update.served, await loading)
        return state.result("deployed")

    async def _end_provisional(self, state: CycleState) -> str:
        """Let the champion serve again instead of a provisional version that is not confirmed."""
        champion, provisional = state.cycle.champion, state.cycle.provisional
        if champion is None or provisional is None:
            return ""
        await self.deployer.end_provisional(provisional, token=state.cycle.token)
        state.ended_provisional = True
        return f"; {champion.version} serves again instead of the provisional {provisional.version}"

    async def _with_labels_apart(
        self, cycle: CycleContext, selected: Curated, last: LearningCycleResult | None
    ) -> Curated:
        """The examples with labels that the champion does not know, or the others. See `Curated.apart`."""
        known = await known_labels(cycle.champion)
        if known is None:
            return selected
        labels = await self.store.labels(cycle.tenant_id)
        rejected = last is not None and last.status == "rejected" and bool(last.new_labels)
        return selected.apart(known, trainable_tasks(labels), first=not rejected)

    @asynccontextmanager
    async def _stage(self, state: CycleState, stage: Stage) -> AsyncIterator[None]:
        """Journal and publish the start of a stage, and measure its time."""
        cycle = state.cycle
        if stage != "curating":
            await self.store.advance_cycle(cycle.tenant_id, cycle.cycle_id, stage, token=cycle.token)
        self.events.publish(StageStarted(tenant_id=cycle.tenant_id, cycle_id=cycle.cycle_id, stage=stage))
        started = perf_counter()
        try:
            yield
        finally:
            state.seconds[stage] = perf_counter() - started


async def _lost_version(champion: ModelVersion | None, *, replace: bool) -> str | None:
    """The champion's name if its files and its backup are lost, or if it is to be replaced."""
    if champion is None or not (replace or await call_in_executor(is_lost, champion)):
        return None
    logger.warning("%s cannot be loaded: a full training replaces it", champion.version)
    return champion.version
