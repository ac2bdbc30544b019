"""JSON lines and arrays of records: ours, or those of another tool that are recognised by their keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.keys import RecordKeys, named
from karen_learner.corpora.lines import Line, read_json_values


def read_json_records(file: CorpusFile) -> Iterator[Line[Any]]:
    """The records of a file by our keys.

    Without a given format and without renamed keys, the first record tells whether they are those of another
    tool.
    """
    lines = read_json_values(file.path, encoding=file.encoding)
    keys = RecordKeys(file)
    last = 0
    for line in lines:
        last = line.line
        yield line.parsed(keys.values)
    if keys.ignored:
        yield Line(last, note=f"ignored the keys {named(keys.ignored)}")
