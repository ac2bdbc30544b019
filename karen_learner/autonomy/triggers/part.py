"""The triggers of the service: at each tick, the condition tree of every tenant is evaluated and kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from karen_learner.autonomy.parts import CycleQueue
from karen_learner.autonomy.triggers.mode import requested_mode
from karen_learner.autonomy.triggers.tree import read_tree
from karen_learner.autonomy.triggers.trigger import Situation
from karen_learner.contracts import Clock, MemoryStore
from karen_learner.cycle.policy import undecided_examples
from karen_learner.monitoring.readings import Readings
from karen_learner.records import CycleRow, LearningCycleResult, TenantCounts
from karen_learner.records.triggers import CycleRequest, TriggeredMode, TriggerTick
from karen_learner.settings import TriggerSettings

logger = logging.getLogger(__name__)

TICK = "last_tick"
REQUEST = "cycle_request"
RECENT_CYCLES = 20
CYCLES_OF_A_DAY = 500


class TriggerPart:
    """Evaluates `triggers.condition` for each tenant, and queues the cycles that it requests.

    The last result is stored (`last_tick`). A dry run evaluates and stores nothing, and queues nothing.
    Raises SettingsError for an unusable condition.
    """

    def __init__(
        self,
        store: MemoryStore,
        readings: Readings,
        queue: CycleQueue,
        settings: TriggerSettings,
        *,
        tenants: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._readings = readings
        self._queue = queue
        self._settings = settings
        self._tree = read_tree(settings.condition)
        self._tenants = tenants

    async def start(self) -> None:
        """Nothing to prepare."""

    async def stop(self) -> None:
        """Nothing to release."""

    async def tick(self, now: datetime) -> None:
        """Evaluate the tree of each tenant, and queue the requested cycles."""
        trained = await self.trained_s(now)
        for tenant_id in self._tenants or await self._store.tenants():
            try:
                await self.evaluate(tenant_id, now, trained_s=trained, act=True)
            except Exception:  # rows of one tenant, or triggers of hosts: the other tenants go on
                logger.exception("the triggers of %r failed", tenant_id)

    async def evaluate(
        self, tenant_id: str, now: datetime, *, trained_s: float | None = None, act: bool = False
    ) -> TriggerTick:
        """The result of the tree of a tenant now. With `act`, it is stored and a requested cycle queued."""
        trained = await self.trained_s(now) if trained_s is None else trained_s
        situation = await self._situation(tenant_id, now, trained)
        last = await last_tick(self._store, tenant_id)
        root = self._tree.evaluate(situation, last.root if last is not None else None)
        holding = [leaf for leaf in root.leaves() if leaf.holds]
        wanted = requested_mode(situation, root, self._settings)
        tick = TriggerTick(
            tenant_id=tenant_id,
            at=now,
            fires=root.holds,
            mode=wanted.mode,
            force=wanted.force,
            reason=wanted.reason or ", ".join(leaf.name for leaf in holding),
            root=root,
        )
        return await self._act(tick, situation) if act else tick

    async def _act(self, tick: TriggerTick, situation: Situation) -> TriggerTick:
        if tick.fires:
            request = situation.request

            async def end(result: LearningCycleResult | None) -> None:
                if request is not None:
                    await self._end_request(tick.tenant_id, request, result)

            started = self._queue.put(
                tick.tenant_id, mode=tick.mode, force=tick.force, reason=tick.reason, on_result=end
            )
            tick = tick.model_copy(update={"started": started})
        await self._store.set_service_state(tick.tenant_id, TICK, tick.to_dict())
        return tick

    async def _end_request(
        self, tenant_id: str, request: CycleRequest, result: LearningCycleResult | None
    ) -> None:
        """Remove a request after its cycle, so that a crash before repeats it. A newer request stays.

        A request stays, too, if another process ran a cycle: that result is not journalled.
        """
        rows = await self._store.cycles(tenant_id, limit=RECENT_CYCLES)
        is_journalled = result is None or any(row.cycle_id == result.cycle_id for row in rows)
        if is_journalled and await cycle_request(self._store, tenant_id) == request:
            await self._store.set_service_state(tenant_id, REQUEST, None)

    async def _situation(self, tenant_id: str, now: datetime, trained_s: float) -> Situation:
        cycles = await self._store.cycles(tenant_id, limit=RECENT_CYCLES)
        counts = await self._store.counts(tenant_id)
        running = bool(await self._store.unfinished_cycles(tenant_id)) or self._queue.is_queued(tenant_id)
        decided = await self._store.last_decision(tenant_id)
        undecided = undecided_examples(decided.result if decided is not None else None)
        return Situation(
            tenant_id=tenant_id,
            now=now,
            readings=self._readings.latest(tenant_id),
            counts=counts,
            cycles=cycles,
            outcomes=self._readings.newest_outcomes(tenant_id),
            new_samples=new_samples(counts, undecided),
            trained_s=trained_s,
            is_running=running,
            request=await cycle_request(self._store, tenant_id),
        )

    async def trained_s(self, now: datetime) -> float:
        """Seconds of training of all tenants in the last 24 hours."""
        rows = await self._store.cycles(None, limit=CYCLES_OF_A_DAY)
        return sum(map(_training_s, rows_since(rows, now - timedelta(days=1))))


def new_samples(counts: TenantCounts, undecided: int) -> int:
    """Pending examples and turns with feedback that the last decision did not see."""
    return max(0, counts.examples.get("pending", 0) - undecided) + counts.awaiting_curation


def rows_since(rows: Sequence[CycleRow], moment: datetime) -> list[CycleRow]:
    """The rows of cycles that began after a moment."""
    return [row for row in rows if row.started_at > moment]


def _training_s(row: CycleRow) -> float:
    return row.result.stage_seconds.get("training", 0.0) if row.result is not None else 0.0


async def last_tick(store: MemoryStore, tenant_id: str) -> TriggerTick | None:
    """The stored result of the last tick of a tenant; None without one."""
    value = await store.service_state(tenant_id, TICK)
    return None if value is None else TriggerTick.model_validate(value)


async def cycle_request(store: MemoryStore, tenant_id: str) -> CycleRequest | None:
    """The request for a cycle that waits for the service; None without one."""
    value = await store.service_state(tenant_id, REQUEST)
    return None if value is None else CycleRequest.model_validate(value)


async def request_cycle(
    store: MemoryStore, tenant_id: str, reason: str, *, mode: TriggeredMode = "auto", clock: Clock
) -> CycleRequest:
    """Ask the service for a cycle. A later request replaces an earlier one."""
    request = CycleRequest(at=clock(), mode=mode, reason=reason)
    await store.set_service_state(tenant_id, REQUEST, request.to_dict())
    return request
