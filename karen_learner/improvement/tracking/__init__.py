"""Tickets of changes, their measured effects, and the sum of the effects."""

from karen_learner.improvement.tracking.tracker import ImprovementTracker

__all__ = ["ImprovementTracker"]
