"""Training data of Rasa as JSON, which its versions before 2 read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from karen_learner.corpora.formats.labels import mappings, stated_labels
from karen_learner.corpora.formats.record_format import Values
from karen_learner.corpora.lines import CorruptExample, Line
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
