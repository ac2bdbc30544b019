"""JSON lines and arrays of records: ours, or those of another tool that are recognised by their keys.

Rasa's JSON (before its version 2) is one document in place of records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.formats.doccano import DOCCANO
from karen_learner.corpora.formats.label_studio import LABEL_STUDIO
from karen_learner.corpora.formats.labels import mappings, stated_labels, with_known_entities
from karen_learner.corpora.formats.prodigy import PRODIGY
from karen_learner.corpora.formats.record_format import RecordFormat, Values
from karen_learner.corpora.formats.spacy_json import SPACY_JSON
from karen_learner.corpora.keys import RecordKeys, named
from karen_learner.corpora.lines import CorruptExample, Line, read_json_values
from karen_learner.errors import ImportFormatError

JSON_KEY = "rasa_nlu_data"


def read_rasa_json(document: Any) -> Iterator[Line[Any]]:
    """The `common_examples` of Rasa's older JSON. The numbers count them.

    Raises ImportFormatError for a document of another form.
    """
    data = document.get(JSON_KEY) if isinstance(document, Mapping) else None
    if not isinstance(data, Mapping):
        raise ImportFormatError(f"the JSON document has no {JSON_KEY!r} of Rasa")
    for name in data.keys() - {"common_examples"}:
        if data[name]:
            yield Line(1, note=f"left out the section {str(name)[:60]!r}")
    for number, one in enumerate(data.get("common_examples") or (), start=1):
        yield Line(number, one).parsed(_json_values)


def _json_values(example: Any) -> Values:
    if not isinstance(example, Mapping):
        raise CorruptExample("is no training example of Rasa")
    spans = mappings(example.get("entities"), "entities")
    entities = [(one.get("start"), one.get("end"), one.get("entity")) for one in spans]
    return {"text": example.get("text"), "entities": entities, **stated_labels(example)}


RECORD_FORMATS = (LABEL_STUDIO, PRODIGY, SPACY_JSON, DOCCANO)
"""In the order in which they are tried."""


def read_json_records(file: CorpusFile) -> Iterator[Line[Any]]:
    """The records of a file by our keys.

    Without a given format and renamed keys, the first record tells whether they are those of another tool.
    """
    lines = read_json_values(file.path, encoding=file.encoding)
    broken, first = _first_value(lines)
    tells = first is not None and not file.format and not file.keys
    another = recognised(first.value) if first is not None and tells else None
    yield from broken
    if first is not None and tells and isinstance(first.value, Mapping) and JSON_KEY in first.value:
        yield Line(1, note="read as training data of Rasa (--format rasa)")
        yield from with_known_entities(list(read_rasa_json(first.value)))
        return
    remaining = lines if first is None else chain([first], lines)
    if another is not None:
        yield Line(1, note=f"read as records of {another.title} (--format {another.name})")
        yield from (another.parsed(line, file) for line in remaining)
        return
    keys = RecordKeys(file)
    yield from (line.parsed(partial(_values, keys)) for line in remaining)
    if keys.ignored:
        yield Line(1, note=f"ignored the keys {named(keys.ignored)}")


def _values(keys: RecordKeys, record: object) -> object:
    """The values of a record by our keys. The error of a record of another tool names the tool."""
    try:
        return keys.values(record)
    except CorruptExample as error:
        tool = recognised(record)
        if tool is None:
            raise
        raise CorruptExample(f"this looks like {tool.title}: use --format {tool.name} ({error})") from error


def _first_value(lines: Iterator[Line[Any]]) -> tuple[list[Line[Any]], Line[Any] | None]:
    """The lines before the first one that is JSON, and this line."""
    broken: list[Line[Any]] = []
    for line in lines:
        if line.error is None:
            return broken, line
        broken.append(line)
    return broken, None


def recognised(record: Any) -> RecordFormat | None:
    """The format of another tool that a record has, if its keys tell."""
    return next((one for one in RECORD_FORMATS if one.recognises(record)), None)
