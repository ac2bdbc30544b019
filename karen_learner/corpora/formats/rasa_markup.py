"""Entities in training examples of Rasa: `[Oslo](place)` and `[Oslo]{"entity": "place"}`.

https://legacy-docs-oss.rasa.com/docs/rasa/training-data-format#entities
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from karen_learner.corpora.lines import CorruptExample, parse_json
from karen_learner.records import EntitySpan

_ENTITY = re.compile(
    r"\[(?P<words>[^\[\]]+)\]"
    r"(?:\((?P<label>[^():]+)(?::(?P<value>[^)]*))?\)|(?P<object>\{[^}]*\})|(?P<several>\[\{.*?\}\]))"
)
_PLAIN_LABEL = re.compile(r"[^\s():{}\[\]](?:[^():{}\[\]]*[^\s():{}\[\]])?")


class MarkedText(NamedTuple):
    """A text, its entities as `(start, end, label)`, and the further parts of their annotations."""

    text: str
    entities: tuple[tuple[int, int, str], ...]
    ignored: frozenset[str] = frozenset()


def parse_markup(marked: str) -> MarkedText:
    """The text and the entities of an example. Raises CorruptExample for a broken annotation."""
    text, entities, ignored, at = "", [], set[str](), 0
    for found in _ENTITY.finditer(marked):
        text += marked[at : found.start()]
        label, further = _annotation(found)
        entities.append((len(text), len(text) + len(found["words"]), label))
        text += found["words"]
        ignored |= further
        at = found.end()
    return MarkedText(text + marked[at:], tuple(entities), frozenset(ignored))


def _annotation(found: re.Match[str]) -> tuple[str, set[str]]:
    """The label of an entity, and the names of the parts that are ignored, such as `value` and `role`."""
    if found["label"] is not None:
        return found["label"].strip(), {"value"} if found["value"] else set()
    try:
        annotation: Any = parse_json(found["object"] or found["several"])
    except (ValueError, RecursionError) as error:
        raise CorruptExample(f"the annotation of an entity is not JSON: {error}") from error
    if isinstance(annotation, list):
        if len(annotation) != 1:
            raise CorruptExample("an entity has several annotations")
        annotation = annotation[0]
    if not isinstance(annotation, Mapping) or not isinstance(annotation.get("entity"), str):
        raise CorruptExample("the annotation of an entity has no 'entity'")
    return annotation["entity"], set(annotation) - {"entity"}


def markup(text: str, entities: tuple[EntitySpan, ...]) -> str | None:
    """The example of a text; None if its annotation cannot be told from the text."""
    written, at = "", 0
    for span in sorted(entities, key=lambda span: span.start):
        label = f"({span.label})" if _PLAIN_LABEL.fullmatch(span.label) else _object(span.label)
        written += f"{text[at : span.start]}[{text[span.start : span.end]}]{label}"
        at = span.end
    written += text[at:]
    wanted = tuple(sorted((span.start, span.end, span.label) for span in entities))
    try:
        return written if parse_markup(written) == MarkedText(text, wanted) else None
    except CorruptExample:
        return None


def _object(label: str) -> str:
    return json.dumps({"entity": label}, ensure_ascii=False)
