"""The dashboard of the service: pages for people, rendered on the server, kept live by server-sent events."""

from karen_learner.service.dashboard.app import add_dashboard

__all__ = ["add_dashboard"]
