"""Readers of JSON lines, CSV and DocBin files; writers of JSON lines and DocBin files."""
