"""Status and metrics of one tenant or of all, from counters and the journal."""

from __future__ import annotations

from asyncio_extras import call_in_executor

from karen_learner.contracts import Clock, MemoryStore
from karen_learner.cycle.policy import REPEATED_HARM, harmful_decisions, knows_former_labels, would_be_lost
from karen_learner.errors import UnknownCycle
from karen_learner.models.versions import ModelRegistry, full_id
from karen_learner.monitoring.serving import ServingHealth
from karen_learner.records import (
    CycleRow,
    LearningCycleResult,
    LearningMetrics,
    ModelVersion,
    TenantCounts,
    TenantStatus,
    utc_now,
)
from karen_learner.settings import Settings

RECENT = 20
SEARCHED = 200
"""Newest cycles that are searched for one that was not skipped."""


class Overview:
    """Status and metrics. The cost of reading does not depend on the length of the history."""

    def __init__(
        self,
        store: MemoryStore,
        registry: ModelRegistry,
        settings: Settings,
        *,
        serving: ServingHealth,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._serving = serving
        self._clock = clock

    async def status(self, tenant_id: str) -> TenantStatus:
        """Champion, counts, labels, running and last cycle, advice, and health."""
        counts = await self._store.counts(tenant_id)
        champion = await self._registry.champion(tenant_id)
        unfinished = await self._store.unfinished_cycles(tenant_id)
        running = unfinished[0] if unfinished else None
        recent = await self._recent(tenant_id)
        decided = await self._store.last_decision(tenant_id)
        serving = await self._registry.serving(tenant_id)
        health = await self._serving.of(tenant_id, serving, recent)
        ready, advice = self._advice(
            counts,
            champion,
            running,
            decided.result if decided is not None else None,
            harmful=harmful_decisions(recent),
        )
        if not health.healthy and running is None:
            if champion is not None and await call_in_executor(would_be_lost, champion):
                ready, advice = (
                    True,
                    "`karen-learner repair`, or a learning cycle, replaces the lost live model",
                )
            else:
                advice = "`karen-learner repair` restores the live model, or says why it cannot be loaded"
        if running is None and await knows_former_labels(self._store, champion):
            advice += "; labels have changed: `karen-learner learn --force` trains in full"
        if counts.waiting:
            decide = "`karen-learner release` or `karen-learner discard`"
            advice += f"; {counts.waiting} examples wait because of a rollback: {decide}"
        holdback = await self._store.holdback(tenant_id)
        return TenantStatus(
            tenant_id=tenant_id,
            champion=champion,
            holdback=holdback if holdback is not None and holdback.runs(self._clock()) else None,
            provisional=await self._registry.provisional(tenant_id),
            counts=counts,
            labels=await self._store.labels(tenant_id),
            running_cycle=running,
            last_cycle=recent[0] if recent else None,
            ready_to_learn=ready,
            advice=advice,
            health=health,
        )

    def _advice(
        self,
        counts: TenantCounts,
        champion: ModelVersion | None,
        running: CycleRow | None,
        last: LearningCycleResult | None,
        *,
        harmful: int,
    ) -> tuple[bool, str]:
        minimum = self._settings.learning.min_data_threshold
        waiting = counts.examples.get("pending", 0) + counts.awaiting_curation
        if running is not None:
            return False, f"a cycle is {running.stage}"
        if champion is None:
            return False, "bootstrap it with labelled texts: there is no model yet, the fallback answers"
        if last is not None and last.verdict is not None and not last.verdict.accepted:
            quarantined = last.quarantined_examples
            if quarantined and waiting - (last.pending_examples - quarantined) < minimum:
                why = f"{quarantined} examples made the model worse twice and are quarantined"
                return False, f"{why}: `karen-learner quarantine` lists them, `karen-learner show` the reason"
            since = max(0, waiting - last.pending_examples)
            if since < minimum and (not last.verdict.harmful or harmful >= REPEATED_HARM):
                why = last.verdict.missing or "`karen-learner show` names the reason"
                return False, f"{since} of {minimum} new examples since the last decision; {why}"
        if waiting >= minimum:
            return True, f"{waiting} new examples may be ready: run a learning cycle"
        return False, f"{waiting} of {minimum} new examples collected: keep collecting feedback"

    async def cycle(self, tenant_id: str, cycle_id: str | None) -> LearningCycleResult:
        """The result of a cycle or rollback; without an id, of the newest one that was not skipped.

        Raises UnknownCycle.
        """
        if cycle_id is None:
            rows = await self._store.cycles(tenant_id, limit=SEARCHED)
            results = [row.result for row in rows if row.result is not None]
            if not results:
                raise UnknownCycle(f"{tenant_id!r} has no finished cycle: `karen-learner learn` runs one")
            return next((result for result in results if result.status != "skipped"), results[0])
        name = await full_id(self._store, tenant_id, "cycle", cycle_id)
        row = await self._store.cycle(tenant_id, name) if name is not None else None
        if row is None:
            raise UnknownCycle(f"{tenant_id!r} has no cycle {cycle_id!r}: see `karen-learner history`")
        if row.result is None:
            raise UnknownCycle(
                f"the cycle {cycle_id!r} of {tenant_id!r} is {row.stage}: it has no result yet"
            )
        return row.result

    async def metrics(self, tenant_id: str | None) -> LearningMetrics:
        """Sums over cycles. Without a tenant: over all tenants, without results of single cycles."""
        tallies = await self._store.cycle_tallies(tenant_id)
        recent = await self._recent(tenant_id) if tenant_id is not None else ()
        one = None if tenant_id is None else await self._store.counts(tenant_id)
        trained = tallies.get("trained", 0)
        return LearningMetrics(
            tenant_id=tenant_id,
            total_cycles=int(tallies.get("total", 0)),
            successful_cycles=int(tallies.get("deployed", 0)),
            failed_cycles=int(tallies.get("failed", 0)),
            rejected_cycles=int(tallies.get("rejected", 0)),
            skipped_cycles=int(tallies.get("skipped", 0)),
            model_improvements=int(tallies.get("improved", 0)),
            average_training_time=tallies.get("training_seconds", 0.0) / trained if trained else 0.0,
            last_cycle=recent[0] if recent else None,
            recent_cycles=recent,
            turns=one.turns if one is not None else await self._store.total_turns(),
            tenants=1 if one is not None else len(await self._store.tenants()),
        )

    async def _recent(self, tenant_id: str) -> tuple[LearningCycleResult, ...]:
        rows = await self._store.cycles(tenant_id, limit=RECENT)
        return tuple(row.result for row in rows if row.result is not None)
