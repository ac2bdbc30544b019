"""`Notifier`: queues notifications in the outbox, and delivers them with growing waits.

A notification is a row for each target. Attempts and waits are in the rows, so that they survive a restart.
A delivery is repeated after a crash: a receiver recognises a repeated message by its id.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from karen_learner.autonomy.notifications.addresses import Resolver, resolve
from karen_learner.contracts import OutboxStore
from karen_learner.errors import DeliveryFailed, InvalidInput, StoreError
from karen_learner.monitoring.notices import queue_notification
from karen_learner.records import new_id
from karen_learner.records.notifications import (
    Delivery,
    Notification,
    NotificationSeverity,
    OutboxRow,
    TargetState,
)
from karen_learner.settings import EmailTarget, NotificationSettings, WebhookTarget

logger = logging.getLogger(__name__)

MAX_GROUP = 20
"""Notifications of one message."""
ESCALATE_AFTER = 5
"""Failed attempts in a row after which the other targets are told."""
RETENTION = timedelta(days=30)
CLAIM_MARGIN_S = 60.0
JITTER = 0.2


class Notifier:
    """Queues and delivers notifications. Times come from the caller of `tick`.

    Several notifiers, also of different processes, may serve one store.
    """

    def __init__(
        self, store: OutboxStore, settings: NotificationSettings, *, resolver: Resolver = resolve
    ) -> None:
        self._store = store
        self._settings = settings
        self._resolver = resolver
        self._pruned_at: datetime | None = None

    async def notify(self, new: Notification, now: datetime, *, without: str | None = None) -> int:
        """Queue a notification for the targets of its severity, apart from `without`; their number.

        A problem that was reported before is left out until its recovery, or for
        `notifications.repeat_hours`. Raises StoreError.
        """
        return await queue_notification(self._store, self._settings, new, now, without=without)

    async def tick(self, now: datetime) -> tuple[Delivery, ...]:
        """Deliver the notifications that are due. It takes up to twice `notifications.timeout_s`."""
        await self._clean_up(now)
        messages = await asyncio.gather(*(self._serve(name, now) for name in self._settings.targets))
        return tuple(one for of_target in messages for one in of_target)

    async def states(self) -> Sequence[TargetState]:
        """The state of all targets, by name."""
        known = {one.target: one for one in await self._store.target_states()}
        names = sorted({*self._settings.targets, *known})
        return [known.get(name, TargetState(target=name)) for name in names]

    async def test(self, now: datetime, target: str | None = None) -> tuple[Delivery, ...]:
        """Deliver a test message to one target or all at once, without the outbox. Raises InvalidInput."""
        return await send_test(self._settings, now, target, resolver=self._resolver)

    async def _serve(self, name: str, now: datetime) -> list[Delivery]:
        """The messages of a target: one, or two if more critical notifications wait."""
        delivered: list[Delivery] = []
        for _ in range(2):
            if not await self._may_send(name, now):
                break
            group = await self._claim(name, now)
            if not group:
                break
            delivered.append(await self._deliver(name, group, now))
            if delivered[-1].error is not None or len(group) < MAX_GROUP:
                break
        return delivered

    async def _may_send(self, name: str, now: datetime) -> bool:
        """Whether the rate permits another message of the highest severity that waits."""
        since = now - timedelta(hours=1)
        for severity in _SEVERITIES:
            if await self._store.is_waiting(name, severity):
                sent = await self._store.messages_since(name, severity, since)
                return sent < self._settings.max_per_hour
        return False

    async def _claim(self, name: str, now: datetime) -> Sequence[OutboxRow]:
        until = now + timedelta(seconds=2 * self._settings.timeout_s + CLAIM_MARGIN_S)
        return await self._store.claim_notifications(
            name, message_id=new_id(), now=now, until=until, limit=MAX_GROUP
        )

    async def _deliver(self, name: str, rows: Sequence[OutboxRow], now: datetime) -> Delivery:
        group = [row.notification for row in rows]
        before = max(row.attempts for row in rows) - 1
        failure = await deliver(
            self._settings.targets[name],
            _message_id(rows),
            group,
            now=now,
            timeout_s=self._settings.timeout_s,
            resolver=self._resolver,
        )
        if failure is None:
            await self._store.deliver_notifications([row.seq for row in rows], now=now)
            if before >= ESCALATE_AFTER:
                await self.notify(_recovered(name), now, without=name)
            return Delivery(target=name, notifications=len(rows))
        error = str(failure)
        logger.warning("the target %r has not accepted a message: %s", name, error)
        next_at = {row.seq: self._next_attempt(row, failure, now) for row in rows}
        await self._store.retry_notifications(next_at, now=now, error=error)
        if before + 1 >= ESCALATE_AFTER:
            await self.notify(_failing(name, before + 1, error), now, without=name)
        return Delivery(target=name, notifications=len(rows), error=error)

    def _next_attempt(self, row: OutboxRow, failure: DeliveryFailed, now: datetime) -> datetime | None:
        """The time of the next attempt; None after `notifications.give_up_days`."""
        if now - row.created_at >= timedelta(days=self._settings.give_up_days):
            logger.error("a notification for %r was not delivered in time and is given up", row.target)
            return None
        wait = self._settings.retry_s * 2.0 ** min(row.attempts - 1, 30)
        share = zlib.crc32(row.notification.notification_id.encode()) / 2**32
        wait = min(wait, self._settings.max_retry_s) * (1.0 + JITTER * (share - 0.5))
        return now + timedelta(seconds=max(wait, failure.retry_after_s or 0.0))

    async def _clean_up(self, now: datetime) -> None:
        """Once an hour, remove old rows, and end those of removed targets."""
        if self._pruned_at is not None and timedelta(0) <= now - self._pruned_at < timedelta(hours=1):
            return
        self._pruned_at = now
        try:
            await self._store.end_targets(tuple(self._settings.targets), now=now)
            await self._store.prune_notifications(before=now - RETENTION)
        except StoreError:
            logger.exception("the outbox cannot be cleaned")


_SEVERITIES: tuple[NotificationSeverity, ...] = ("critical", "warning")


async def send_test(
    settings: NotificationSettings, now: datetime, target: str | None = None, *, resolver: Resolver = resolve
) -> tuple[Delivery, ...]:
    """Deliver a test message to one target or to all, without the outbox.

    Raises InvalidInput for an unknown target, and without any target.
    """
    known = settings.targets
    if target is not None and target not in known:
        raise InvalidInput(f"there is no target {target!r:.80}: known are {', '.join(known) or 'none'}")
    if not known:
        raise InvalidInput("no target is set: add a section [notifications.targets.NAME] to the settings")
    chosen: Mapping[str, WebhookTarget | EmailTarget] = known if target is None else {target: known[target]}
    test = Notification(topic="test", kind="notice", title="This is a test message of karen_learner", at=now)
    failures = await asyncio.gather(
        *(
            deliver(one, new_id(), [test], now=now, timeout_s=settings.timeout_s, resolver=resolver)
            for one in chosen.values()
        )
    )
    return tuple(
        Delivery(target=name, notifications=1, error=None if failure is None else str(failure))
        for name, failure in zip(chosen, failures, strict=True)
    )


async def deliver(
    target: WebhookTarget | EmailTarget,
    message_id: str,
    group: Sequence[Notification],
    *,
    now: datetime,
    timeout_s: float,
    resolver: Resolver = resolve,
) -> DeliveryFailed | None:
    """Send one message within a time limit. Returns the failure, without secrets; None if it was accepted."""
    from karen_learner.autonomy.notifications import mail, webhooks  # slow imports

    try:
        async with asyncio.timeout(timeout_s):
            if isinstance(target, EmailTarget):
                await mail.send(target, message_id, group, timeout_s=timeout_s, resolver=resolver)
            else:
                await webhooks.post(target, message_id, group, now=now, resolver=resolver)
    except DeliveryFailed as error:
        return error
    except TimeoutError:
        return DeliveryFailed(f"no answer within {timeout_s:g} seconds")
    except Exception as error:  # the message of a foreign error may quote the URL
        logger.warning("a message failed: %s", type(error).__name__)
        return DeliveryFailed(type(error).__name__)
    return None


def _is_for_critical(new: Notification) -> bool:
    """Whether a target of critical notifications gets it. A recovery goes where its problem went."""
    return new.severity == "critical" or new.kind == "recovery"


def _message_id(rows: Sequence[OutboxRow]) -> str:
    """The same id for the same notifications, so that a receiver recognises a repetition."""
    ids = [row.notification.notification_id for row in rows]
    return ids[0] if len(ids) == 1 else hashlib.sha256("".join(ids).encode()).hexdigest()[:32]


def _failing(name: str, attempts: int, error: str) -> Notification:
    return Notification(
        topic=f"target:{name}",
        severity="critical",
        title=f"The notification target {name} does not accept messages",
        facts={"attempts": attempts, "error": error},
    )


def _recovered(name: str) -> Notification:
    title = f"The notification target {name} accepts messages again"
    return Notification(topic=f"target:{name}", kind="recovery", severity="critical", title=title)
