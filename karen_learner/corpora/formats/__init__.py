"""Formats of files: our own, and those of other tools.

A format is a module with a reader, and mostly a writer. `importers.py` and `exporters.py` name them. A format
of JSON records is a `RecordFormat`.
"""
