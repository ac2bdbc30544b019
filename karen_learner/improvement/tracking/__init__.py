"""Tickets of changes, their measured effects, and the sum of the effects."""
