"""Hashed word features and word tables."""
