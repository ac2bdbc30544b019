"""Annotations of doccano: `label` with categories or spans, or `cats` and `entities`.

https://doccano.github.io/doccano/tutorial/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from karen_learner.corpora.formats.labels import (
    are_recognised,
    categories,
    category_labels,
    stated_labels,
    text_of,
)
from karen_learner.corpora.formats.record_format import RecordFormat, Values
from karen_learner.corpora.lines import CorruptExample, LeftOut
from karen_learner.records import LabelledText

LABEL_KEYS = ("label", "labels")
UNLABELLED = "left out texts without a label"


def recognises(record: Any) -> bool:
    """Whether a record has a text, and labels as doccano writes them."""
    if not isinstance(record, Mapping) or not isinstance(record.get("text"), str):
        return False
    listed = any(isinstance(record.get(key), list) for key in (*LABEL_KEYS, "cats"))
    entities = record.get("entities")
    return listed or (isinstance(entities, list) and bool(entities) and all(map(_has_offsets, entities)))


def _has_offsets(entity: Any) -> bool:
    return isinstance(entity, Mapping) and {"start_offset", "end_offset"} <= entity.keys()


def values(record: Any) -> Values:
    """The labels of a text. `intent` and `sentiment` are read from its metadata, too."""
    if not isinstance(record, Mapping):
        raise CorruptExample("is no annotation of doccano")
    labels = next((record[key] for key in LABEL_KEYS if record.get(key) is not None), None)
    entities = record.get("entities")
    chosen = [*_listed(record.get("cats")), *(one for one in _listed(labels) if isinstance(one, str))]
    spans = [*_listed(entities), *(one for one in _listed(labels) if not isinstance(one, str))]
    found: Values = {"text": text_of(record), **categories(map(str, chosen))}
    found |= stated_labels(record)
    if spans or entities is not None:
        found["entities"] = [_span(one) for one in spans]
    if len(found) == 1:
        raise LeftOut(UNLABELLED)
    return found


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _span(span: Any) -> Any:
    """The span `[start, end, label]`, or the object of a project with relations."""
    if _has_offsets(span):
        return {"start": span["start_offset"], "end": span["end_offset"], "label": span.get("label")}
    return span


def record(example: LabelledText) -> Values:
    """A text with `label`, or with `cats` and `entities` if both are known."""
    labels = category_labels(example)
    stated = {} if are_recognised(labels) else labels
    cats = [label for task, label in labels.items() if task not in stated]
    if example.entities is None:
        return {"text": example.text, "label": cats, **stated}
    spans = [[span.start, span.end, span.label] for span in example.entities]
    if cats or not spans:
        return {"text": example.text, "entities": spans, "cats": cats, **stated}
    return {"text": example.text, "label": spans, **stated}


DOCCANO = RecordFormat("doccano", "doccano", recognises, values, record)
