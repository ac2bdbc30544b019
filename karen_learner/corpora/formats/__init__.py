"""Formats of files: our own, and those of other tools.

A format is a module with a reader, which an importer's name in `importers.py` refers to, and mostly a writer,
which an exporter's name in `exporters.py` refers to. A format of JSON records is a `RecordFormat`.
"""
