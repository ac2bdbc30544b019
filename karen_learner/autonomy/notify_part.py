"""The part of the service that tells people: alerts of parts, rollbacks, and many failed cycles."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime

from karen_learner.autonomy.notifications import Notifier
from karen_learner.contracts import Clock
from karen_learner.errors import KarenLearnerError
from karen_learner.events import CycleFinished, Event, EventBus, ModelRolledBack
from karen_learner.records import Alert, utc_now
from karen_learner.records.notifications import Notification

logger = logging.getLogger(__name__)

MAX_WAITING = 1_000
"""Notifications between two ticks; the oldest are dropped."""
WATCHED_CYCLES = 10
MIN_CYCLES = 3
MAX_FAILED_SHARE = 0.3
"""Share of failed cycles (rejections apart) above which people are told."""


class NotifyPart:
    """Queues notifications, and delivers them in the background: a slow target delays no tick."""

    def __init__(self, notifier: Notifier, events: EventBus, *, clock: Clock = utc_now) -> None:
        self._notifier = notifier
        self._events = events
        self._clock = clock
        self._waiting: deque[Notification] = deque(maxlen=MAX_WAITING)
        self._failed: dict[str, deque[bool]] = {}
        self._delivery: asyncio.Task[None] | None = None
        self._end_subscription: Callable[[], None] | None = None

    def alert(self, tenant_id: str, alert: Alert) -> None:
        """Queue an alert of a part. Never waits."""
        logger.warning("alert of %r: %s", tenant_id, alert.message)
        self._waiting.append(
            Notification(
                topic=f"{alert.reading}/{tenant_id}"[:300],
                kind="notice",
                severity="critical" if alert.level == "critical" else "warning",
                title=alert.message[:300],
                tenant_id=tenant_id,
                facts=dict(alert.details),
                at=alert.at,
            )
        )

    async def start(self) -> None:
        """Follow cycles and rollbacks. Idempotent."""
        if self._end_subscription is None:
            self._end_subscription = self._events.subscribe(self._on_event)

    async def stop(self) -> None:
        """Store the waiting notifications; the next service delivers them. Idempotent."""
        if self._end_subscription is not None:
            self._end_subscription()
            self._end_subscription = None
        if self._delivery is not None:
            self._delivery.cancel()
            await asyncio.gather(self._delivery, return_exceptions=True)
            self._delivery = None
        await self._store(self._clock())

    async def tick(self, now: datetime) -> None:
        """Store the waiting notifications, and begin a delivery unless one runs."""
        await self._store(now)
        if self._delivery is None or self._delivery.done():
            self._delivery = asyncio.create_task(self._deliver(now))

    async def _store(self, now: datetime) -> None:
        while self._waiting:
            await self._notifier.notify(self._waiting[0], now)
            self._waiting.popleft()

    async def _deliver(self, now: datetime) -> None:
        try:
            await self._notifier.tick(now)
        except KarenLearnerError as error:  # the next tick tries again
            logger.error("notifications cannot be delivered: %s", error)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ModelRolledBack):
            self._waiting.append(
                Notification(
                    topic=f"rollback/{event.tenant_id}"[:300],
                    kind="notice",
                    title=f"rolled back to {event.version}",
                    tenant_id=event.tenant_id,
                    facts={"version": event.version, "previous_version": event.previous_version},
                    at=self._clock(),
                )
            )
        elif isinstance(event, CycleFinished) and event.result.status != "skipped":
            self._count(event.tenant_id, event.result.status == "failed")

    def _count(self, tenant_id: str, failed: bool) -> None:
        """Tell people if more than 30 % of the newest ten cycles failed, and when that has ended."""
        newest = self._failed.setdefault(tenant_id, deque(maxlen=WATCHED_CYCLES))
        before = _too_many(newest)
        newest.append(failed)
        after = _too_many(newest)
        if before != after or (after and failed):
            share = sum(newest) / len(newest)
            self._waiting.append(
                Notification(
                    topic=f"failed_cycles/{tenant_id}"[:300],
                    kind="problem" if after else "recovery",
                    severity="critical" if after else "warning",
                    title=f"{share:.0%} of the newest {len(newest)} cycles failed",
                    tenant_id=tenant_id,
                    facts={"failed_share": share, "cycles": len(newest)},
                    at=self._clock(),
                )
            )


def _too_many(newest: deque[bool]) -> bool:
    return len(newest) >= MIN_CYCLES and sum(newest) / len(newest) > MAX_FAILED_SHARE
