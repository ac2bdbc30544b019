"""Labels of other tools as intents, sentiments and spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from karen_learner.corpora.lines import CorruptExample, Line
from karen_learner.records import LabelledText

SENTIMENTS = frozenset({"negative", "neutral", "positive"})
"""Categories that are sentiments where a tool does not name the task; all others are intents."""


def categories(chosen: Iterable[str]) -> dict[str, str]:
    """The intent and the sentiment of categories. Raises CorruptExample for several of one task."""
    labels = list(dict.fromkeys(chosen))
    sentiments = [label for label in labels if label in SENTIMENTS]
    intents = [label for label in labels if label not in SENTIMENTS]
    if len(intents) > 1 or len(sentiments) > 1:
        raise CorruptExample(f"has several categories of one task: {', '.join(map(repr, labels))}")
    return {
        **({"intent": intents[0]} if intents else {}),
        **({"sentiment": sentiments[0]} if sentiments else {}),
    }


def category_labels(example: LabelledText) -> dict[str, str]:
    """The intent and the sentiment of an example, without unknown ones."""
    found = {"intent": example.intent, "sentiment": example.sentiment}
    return {task: label for task, label in found.items() if label is not None}


def stated_labels(record: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a record under our keys `intent` and `sentiment`."""
    return {task: record[task] for task in ("intent", "sentiment") if isinstance(record.get(task), str)}


def are_recognised(labels: Mapping[str, str]) -> bool:
    """Whether `categories` finds the task of each label."""
    try:
        return categories(labels.values()) == labels
    except CorruptExample:
        return False


def with_known_entities(lines: Sequence[Line[Any]]) -> Iterator[Line[Any]]:
    """The lines of data that mark entities in their texts.

    Without any entity in all of them, entities are unknown. Otherwise a text without one has none.
    """
    known = any(line.value["entities"] for line in lines if line.value is not None)
    for line in lines:
        if line.value is not None and not known:
            del line.value["entities"]
        yield line


def text_of(record: Mapping[str, Any], key: str = "text") -> str:
    """The text of a record. Raises CorruptExample."""
    text = record.get(key)
    if not isinstance(text, str):
        raise CorruptExample(f"needs the key {key!r} with a text")
    return text


def mappings(value: Any, what: str) -> list[Mapping[str, Any]]:
    """A list of objects; an empty one for None. Raises CorruptExample for anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise CorruptExample(f"{what} is no list of objects")
    return value


def strings(value: Any, what: str) -> list[str]:
    """A list of texts, or one text. Raises CorruptExample for anything else."""
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
        raise CorruptExample(f"{what} is no list of labels")
    return several
