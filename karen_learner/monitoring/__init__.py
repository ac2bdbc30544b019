"""Readings of a learner: status and metrics."""
