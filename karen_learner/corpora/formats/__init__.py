"""Formats of files: our own, and those of other tools."""
