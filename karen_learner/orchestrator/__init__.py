"""Middleware for hosts that answer with an LLM."""
