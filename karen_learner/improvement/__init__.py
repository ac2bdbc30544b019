"""Analyses of performance, recommendations, and measured effects of changes."""
