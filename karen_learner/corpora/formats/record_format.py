"""Formats of other tools that are JSON records: lines, or one array."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.exporters import ExportFile
from karen_learner.corpora.lines import CorruptExample, Line, read_json_values
from karen_learner.corpora.parsing import gold_or_turn, values_in_characters
from karen_learner.disk import open_private
from karen_learner.records import LabelledText

Values = dict[str, Any]
"""The values of a labelled text by our keys."""


@dataclass(frozen=True)
class RecordFormat:
    """The records of one tool.

    `recognises` tells its records from those of others. `values` reads one; it raises CorruptExample, and
    LeftOut for a record that is no example. `record` writes one. `is_array`: a file is one array.
    `defines_offsets`: `values` gives offsets in characters.
    """

    name: str
    title: str
    recognises: Callable[[Any], bool]
    values: Callable[[Any], Values]
    record: Callable[[LabelledText], Any]
    is_array: bool = False
    defines_offsets: bool = False

    def read(self, file: CorpusFile) -> Iterator[Line[Any]]:
        """The records of a file by our keys."""
        for line in read_json_values(file.path, encoding=file.encoding):
            yield self.parsed(line, file)

    def parsed(self, line: Line[Any], file: CorpusFile) -> Line[Any]:
        """The record of a line by our keys, with offsets in characters."""
        found = line.parsed(self.values)
        if self.defines_offsets:
            return found
        return found.parsed(partial(values_in_characters, unit=file.offsets))

    def write(self, file: ExportFile, examples: Iterable[LabelledText]) -> int:
        """Write examples, and note the labels that the format cannot hold. Returns their number."""
        count = 0
        with open_private(file.path) as out:
            for example in examples:
                record = self.record(example)
                file.compare(example, self._read_back(record))
                separator = "" if not self.is_array else "[\n" if count == 0 else ",\n"
                out.write(
                    separator + json.dumps(record, ensure_ascii=False) + ("" if self.is_array else "\n")
                )
                count += 1
            if self.is_array:
                out.write("\n]\n" if count else "[]\n")
        return count

    def _read_back(self, record: Any) -> LabelledText | None:
        try:
            found = gold_or_turn(self.values(record))
        except CorruptExample:
            return None
        return found if isinstance(found, LabelledText) else None
