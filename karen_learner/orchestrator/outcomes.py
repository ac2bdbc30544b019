"""`StepOutcomes`: the steps of replies as outcomes of strategies, and the limits learned from them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from cachetools import LRUCache

from karen_learner.autonomy.learning_system import AutomatedLearningSystem, StrategicLearner
from karen_learner.errors import KarenLearnerError

logger = logging.getLogger(__name__)

MAX_TENANTS = 1_000
LIMIT_FOR_S = 1.0
"""Seconds for which a learned time limit is remembered."""
ONLY_RECORDS = {
    "enable_strategy_optimization": False,
    "enable_model_retraining": False,  # a failing LLM must not retrain the models of spaCy
    "enable_auto_troubleshooting": False,
}


class StepOutcomes:
    """One learning system for each tenant. Beyond MAX_TENANTS the one that was unused longest is stopped."""

    def __init__(self, learner: StrategicLearner) -> None:
        self._learner = learner
        self._systems: LRUCache[str, AutomatedLearningSystem] = LRUCache(MAX_TENANTS)
        self._limits: LRUCache[tuple[str, str, str], tuple[float, float | None]] = LRUCache(10 * MAX_TENANTS)
        self._tasks: set[asyncio.Task[None]] = set()

    def record(
        self,
        tenant_id: str,
        domain: str,
        strategy: str,
        *,
        success: bool,
        error_type: str | None = None,
        seconds: float | None = None,
        task_id: str | None = None,
    ) -> None:
        """Count a step. Never waits."""
        self._system(tenant_id).record_attempt(
            success,
            strategy,
            domain,
            error_type,
            task_id=task_id,
            duration_ms=None if seconds is None else 1e3 * seconds,
        )

    def timeout_s(self, tenant_id: str, domain: str, strategy: str) -> float | None:
        """The learned time limit of a strategy; None until enough attempts are measured."""
        now, place = time.monotonic(), (tenant_id, domain, strategy)
        known = self._limits.get(place)
        if known is None or now - known[0] > LIMIT_FOR_S:
            known = now, self._system(tenant_id).limits(strategy, domain).timeout_s
            self._limits[place] = known
        return known[1]

    async def close(self) -> None:
        """Store all outcomes. Idempotent."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        for system in list(self._systems.values()):
            await self._stop(system)
        self._systems.clear()

    def _system(self, tenant_id: str) -> AutomatedLearningSystem:
        system = self._systems.get(tenant_id)
        if system is None:
            if len(self._systems) >= MAX_TENANTS:
                self._in_background(self._stop(self._systems.popitem()[1]))
            system = self._systems[tenant_id] = AutomatedLearningSystem(
                self._learner, tenant_id=tenant_id, settings=ONLY_RECORDS
            )
            self._in_background(self._start(system))
        return system

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, system: AutomatedLearningSystem) -> None:
        try:
            await system.start_automated_learning()
        except KarenLearnerError:
            logger.exception("outcomes of the orchestrator are not stored")

    async def _stop(self, system: AutomatedLearningSystem) -> None:
        try:
            await system.stop_automated_learning()
        except KarenLearnerError:
            logger.exception("the last outcomes of the orchestrator are not stored")
