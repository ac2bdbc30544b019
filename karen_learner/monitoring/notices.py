"""Queues notifications for the targets of the settings."""

from __future__ import annotations

from datetime import datetime, timedelta

from karen_learner.contracts import OutboxStore
from karen_learner.records.notifications import Notification
from karen_learner.settings import NotificationSettings


async def queue_notification(
    store: OutboxStore,
    settings: NotificationSettings,
    new: Notification,
    now: datetime,
    *,
    without: str | None = None,
) -> int:
    """Queue a notification for the targets of its severity, apart from `without`; their number.

    A problem that was reported before is left out until its recovery, or for `notifications.repeat_hours`.
    A recovery goes where its problem went. Raises StoreError.
    """
    wait = timedelta(0) if new.severity == "critical" else timedelta(seconds=settings.group_s)
    is_for_all = new.severity == "critical" or new.kind == "recovery"
    due = {
        name: now + wait
        for name, target in settings.targets.items()
        if name != without and (target.severity == "warning" or is_for_all)
    }
    if not due:
        return 0
    repeat = timedelta(hours=settings.repeat_hours)
    return await store.add_notification(new, due, now=now, repeat=repeat)
