"""Notifications to people: an outbox in the store, and its targets over HTTP and e-mail."""

from karen_learner.autonomy.notifications.notifier import Notifier

__all__ = ["Notifier"]
