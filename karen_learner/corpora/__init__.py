"""Readers and writers of JSON lines, CSV and DocBin files."""
