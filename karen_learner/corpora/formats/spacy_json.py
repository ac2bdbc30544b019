"""Training data of spaCy v2 as JSON: `[text, {"entities": ..., "cats": ...}]`, one object, or `Doc.to_json`.

https://v2.spacy.io/usage/training#training-simple-style
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from karen_learner.corpora.formats.labels import categories, category_labels, mappings, stated_labels, text_of
from karen_learner.corpora.formats.record_format import RecordFormat, Values
from karen_learner.corpora.lines import CorruptExample
from karen_learner.records import LabelledText


def recognises(record: Any) -> bool:
    """Whether a record is a pair of a text and its annotations, or an object with `cats` or `ents`."""
    if isinstance(record, Mapping):
        annotated = isinstance(record.get("cats"), Mapping) or isinstance(record.get("ents"), list)
        return annotated and isinstance(record.get("text"), str)
    return _is_pair(record)


def _is_pair(record: Any) -> bool:
    return (
        isinstance(record, list)
        and len(record) == 2
        and isinstance(record[0], str)
        and isinstance(record[1], Mapping)
    )


def values(record: Any) -> Values:
    """The categories with the value 1, and the entities."""
    if _is_pair(record):
        record = {**record[1], "text": record[0]}
    if not isinstance(record, Mapping):
        raise CorruptExample("is no pair of a text and its annotations")
    cats = record.get("cats") or {}
    if not isinstance(cats, Mapping):
        raise CorruptExample("cats is no object with a value for each label")
    found: Values = {
        "text": text_of(record),
        **categories(label for label, value in cats.items() if value == 1),
    }
    found |= stated_labels(record)
    if record.get("entities") is not None:
        found["entities"] = record["entities"]
    elif record.get("ents") is not None:
        spans = mappings(record["ents"], "ents")
        found["entities"] = [{name: span.get(name) for name in ("start", "end", "label")} for span in spans]
    return found


def record(example: LabelledText) -> Any:
    """The pair of a text and its annotations."""
    annotations: Values = {}
    if labels := category_labels(example):
        annotations["cats"] = dict.fromkeys(labels.values(), 1.0)
    if example.entities is not None:
        annotations["entities"] = [[span.start, span.end, span.label] for span in example.entities]
    return [example.text, annotations]


SPACY_JSON = RecordFormat("spacy-json", "spaCy v2", recognises, values, record, is_array=True)
