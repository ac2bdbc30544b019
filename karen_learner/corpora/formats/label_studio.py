"""Tasks of Label Studio, as JSON or JSON-MIN. Offsets are those of a browser: UTF-16 code units.

https://labelstud.io/guide/task_format
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from karen_learner.corpora.formats.labels import categories, category_labels, mappings, strings, text_of
from karen_learner.corpora.formats.record_format import RecordFormat, Values
from karen_learner.corpora.lines import CorruptExample, LeftOut
from karen_learner.records import LabelledText
from karen_learner.records.offsets import OffsetUnit, character_at

NOT_ANNOTATED = "left out tasks without an annotation"
CATEGORY_TASKS = ("intent", "sentiment")
FLAT_KEYS = ("annotation_id", "lead_time")
FLAT_LABELS = ("label", "choice", "category")


def recognises(record: Any) -> bool:
    """Whether a record is a task with data and annotations, or a line of JSON-MIN."""
    if not isinstance(record, Mapping):
        return False
    annotated = isinstance(record.get("data"), Mapping) and bool(
        {"annotations", "completions"} & record.keys()
    )
    return annotated or any(key in record for key in FLAT_KEYS)


def values(record: Any) -> Values:
    """The labels of a task. Its annotations must agree; cancelled ones do not count."""
    if not isinstance(record, Mapping):
        raise CorruptExample("is no task of Label Studio")
    if "data" not in record:
        return _flat_values(record)
    text = _text(record["data"])
    annotations = mappings(record.get("annotations", record.get("completions")), "annotations")
    given = [_annotated(text, one) for one in annotations if not one.get("was_cancelled")]
    if not given:
        raise LeftOut(NOT_ANNOTATED)
    if any(one != given[0] for one in given):
        raise CorruptExample(f"has {len(given)} annotations, which differ")
    return {"text": text, **given[0]}


def _text(data: Any) -> str:
    """The text of a task: `text`, or the only text of its data."""
    if not isinstance(data, Mapping):
        raise CorruptExample("data is no object")
    texts = [value for value in data.values() if isinstance(value, str)]
    return texts[0] if "text" not in data and len(texts) == 1 else text_of(data)


def _annotated(text: str, annotation: Mapping[str, Any]) -> Values:
    results = mappings(annotation.get("result"), "result")
    found: Values = {}
    spans = [_span(text, one.get("value")) for one in results if one.get("type") == "labels"]
    for one in results:
        if one.get("type") == "choices":
            found |= _choices(one.get("from_name"), one.get("value"))
    if spans or not results:
        found["entities"] = sorted(spans)
    return found


def _choices(name: Any, value: Any) -> dict[str, str]:
    chosen = strings(value.get("choices") if isinstance(value, Mapping) else value, "choices")
    if name not in CATEGORY_TASKS:
        return categories(chosen)
    if len(chosen) != 1:
        raise CorruptExample(f"has {len(chosen)} choices of {name}")
    return {name: chosen[0]}


def _span(text: str, value: Any) -> tuple[int, int, str]:
    if not isinstance(value, Mapping):
        raise CorruptExample("a span has no value")
    start, end, labels = (
        value.get("start"),
        value.get("end"),
        strings(value.get("labels"), "labels of a span"),
    )
    if not isinstance(start, int) or not isinstance(end, int) or len(labels) != 1 or not 0 <= start < end:
        raise CorruptExample("a span needs a start, an end after it, and one label")
    return (*_code_points(text, start, end, value.get("text")), labels[0])


def _code_points(text: str, start: int, end: int, words: Any) -> tuple[int, int]:
    """Offsets in characters of a span that a browser gave in UTF-16 code units.

    `words` check the result. Some tools write characters: with words, those offsets are tried, too.
    """
    units: tuple[OffsetUnit, ...] = ("utf-16",) if words is None else ("utf-16", "characters")
    for unit in units:
        first, last = character_at(text, start, unit), character_at(text, end, unit)
        if first is not None and last is not None and words in (None, text[first:last]):
            return first, last
    raise CorruptExample(
        f"the span at {start}-{end} is not in the text, or does not have the words it states"
    )


def _flat_values(record: Mapping[str, Any]) -> Values:
    """The labels of a line of JSON-MIN: one key for each field of the annotation."""
    text = text_of(record)
    found: Values = {"text": text}
    for key, value in record.items():
        if isinstance(value, list) and all(isinstance(one, Mapping) and "labels" in one for one in value):
            found["entities"] = sorted(_span(text, one) for one in value)
        elif key in CATEGORY_TASKS or (key in FLAT_LABELS and value):
            found |= _choices(key, value)
    return found


def record(example: LabelledText) -> Values:
    """A task with one annotation."""
    results = [
        _result(task, "choices", {"choices": [label]}) for task, label in category_labels(example).items()
    ]
    results += [
        _result(
            "label",
            "labels",
            {
                "start": _units(example.text[: span.start]),
                "end": _units(example.text[: span.end]),
                "text": example.text[span.start : span.end],
                "labels": [span.label],
            },
        )
        for span in example.entities or ()
    ]
    return {"data": {"text": example.text}, "annotations": [{"result": results}]}


def _result(name: str, kind: str, value: Values) -> Values:
    return {"from_name": name, "to_name": "text", "type": kind, "value": value}


def _units(text: str) -> int:
    """The length of a text in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


LABEL_STUDIO = RecordFormat(
    "label-studio", "Label Studio", recognises, values, record, is_array=True, defines_offsets=True
)
