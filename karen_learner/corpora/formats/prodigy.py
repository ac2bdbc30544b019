"""Annotations of Prodigy: `label`, `accept` of `options`, `spans`, and the `answer`.

https://prodi.gy/docs/api-interfaces
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from karen_learner.corpora.formats.labels import (
    are_recognised,
    categories,
    category_labels,
    mappings,
    stated_labels,
    strings,
    text_of,
)
from karen_learner.corpora.formats.record_format import RecordFormat, Values
from karen_learner.corpora.lines import CorruptExample, LeftOut
from karen_learner.records import LabelledText

ANSWERS = ("accept", "reject", "ignore")
HASHES = ("_input_hash", "_task_hash")


def recognises(record: Any) -> bool:
    """Whether a record has a text and an answer, a hash or spans."""
    if not isinstance(record, Mapping) or not isinstance(record.get("text"), str):
        return False
    spans = record.get("spans")
    has_spans = isinstance(spans, list) and all(isinstance(one, Mapping) and "start" in one for one in spans)
    return record.get("answer") in ANSWERS or any(key in record for key in HASHES) or has_spans


def values(record: Any) -> Values:
    """The labels of an accepted annotation. A rejected or ignored one is left out."""
    if not isinstance(record, Mapping):
        raise CorruptExample("is no annotation of Prodigy")
    answer = record.get("answer", "accept")
    if answer != "accept":
        raise LeftOut(f"left out annotations with the answer {str(answer)[:20]!r}")
    found: Values = {"text": text_of(record), **_categories(record), **stated_labels(record)}
    if record.get("spans") is not None:
        found["entities"] = [_span(one) for one in mappings(record["spans"], "spans")]
    return found


def _categories(record: Mapping[str, Any]) -> dict[str, str]:
    label = record.get("label")
    chosen = [
        *strings(record.get("accept", []), "accept"),
        *([] if label is None else strings(label, "label")),
    ]
    tasks = {
        one.get("id"): one["task"] for one in mappings(record.get("options"), "options") if "task" in one
    }
    stated = {tasks[one]: one for one in chosen if tasks.get(one) in ("intent", "sentiment")}
    return categories(one for one in chosen if one not in stated.values()) | stated


def _span(span: Mapping[str, Any]) -> Values:
    """Offsets and label; the words, if they are stated, check the offsets."""
    words = {"text": span["text"]} if isinstance(span.get("text"), str) else {}
    return {**{name: span.get(name) for name in ("start", "end", "label")}, **words}


def record(example: LabelledText) -> Values:
    """An accepted annotation. Options name the tasks if the labels do not tell them."""
    written: Values = {"text": example.text}
    labels = category_labels(example)
    if len(labels) == 1 and are_recognised(labels):
        written["label"] = next(iter(labels.values()))
    elif labels:
        written["options"] = [{"id": label, "text": label, "task": task} for task, label in labels.items()]
        written["accept"] = list(labels.values())
    if example.entities is not None:
        written["spans"] = [span.to_dict() for span in example.entities]
    return {**written, "answer": "accept"}


PRODIGY = RecordFormat("prodigy", "Prodigy", recognises, values, record)
