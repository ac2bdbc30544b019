"""Offsets of entities in the units of browsers and of bytes, and checks by the words of an entity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

if TYPE_CHECKING:
    from karen_learner.records.texts import EntitySpan


OffsetUnit = Literal["characters", "utf-16", "bytes"]
"""`characters`: Unicode code points, as in Python. `utf-16`: code units, as in JavaScript, Java and C#.
`bytes`: of UTF-8."""
OFFSET_UNITS: tuple[OffsetUnit, ...] = get_args(OffsetUnit)
WORDS_KEYS = ("text", "value")
"""Keys of an entity with its words."""
OFFSETS_KEY = "offsets"
"""Key of feedback with the unit of its corrected entities."""
_ENCODINGS: Mapping[OffsetUnit, tuple[str, int]] = {"utf-16": ("utf-16-le", 2), "bytes": ("utf-8", 1)}


def has_words(entities: Any) -> bool:
    """Whether an entity states its words."""
    return isinstance(entities, (list, tuple)) and any(
        isinstance(one, Mapping) and any(key in one for key in WORDS_KEYS) for one in entities
    )


def in_characters(text: str, entities: Any, unit: OffsetUnit = "characters") -> Any:
    """The entities of a text with offsets in characters and without their words, which are checked.

    Entities of another form than `[start, end, label]` or an object with these keys stay as they are. Raises
    ValueError for an offset inside of a character, and for words that are elsewhere.
    """
    if not isinstance(entities, (list, tuple)) or (unit == "characters" and not has_words(entities)):
        return entities
    return [_in_characters(text, one, unit) for one in entities]


def feedback_in_characters(
    feedback: Mapping[str, Any], text: str | None, unit: OffsetUnit = "characters"
) -> Mapping[str, Any]:
    """Feedback on a text with corrected entities in characters. Its key `offsets` names another unit.

    Without a text, nothing is checked. Raises ValueError.
    """
    entities = feedback.get("corrected_entities")
    if OFFSETS_KEY not in feedback and unit == "characters" and not has_words(entities):
        return feedback
    own = feedback.get(OFFSETS_KEY, unit)
    if own not in OFFSET_UNITS:
        raise ValueError(f"{OFFSETS_KEY}: {own!r} is none of {', '.join(OFFSET_UNITS)}")
    values = {key: value for key, value in feedback.items() if key != OFFSETS_KEY}
    if text is not None and entities is not None:
        values["corrected_entities"] = in_characters(text, entities, cast(OffsetUnit, own))
    return values


def _in_characters(text: str, entity: Any, unit: OffsetUnit) -> Any:
    start, end = _offsets(entity)
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start <= end:
        return entity
    words = _words(entity)
    first, last = character_at(text, start, unit), character_at(text, end, unit)
    if first is None or last is None:
        raise ValueError(f"{_name(entity)} begins or ends inside of a character, or after the text")
    if words is not None and text[first:last] != words:
        raise ValueError(
            f"{_name(entity)} does not have the words that it states{_hint(text, start, end, unit, words)}"
        )
    if isinstance(entity, Mapping):
        rest = {key: value for key, value in entity.items() if key not in WORDS_KEYS}
        return {**rest, "start": first, "end": last}
    return [first, last, *entity[2:]]


def character_at(text: str, offset: int, unit: OffsetUnit) -> int | None:
    """The offset in characters; None inside of a character or after the text."""
    if unit == "characters":
        return offset
    encoding, size = _ENCODINGS[unit]
    encoded = text.encode(encoding, "surrogatepass")
    if offset * size > len(encoded):
        return None
    try:
        before = encoded[: offset * size].decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        return None
    return len(before) if text.startswith(before) else None  # half of a pair of surrogates is no part of it


def _hint(text: str, start: int, end: int, unit: OffsetUnit, words: str) -> str:
    """The units in which the offsets fit the words."""
    fitting = [one for one in OFFSET_UNITS if one != unit and _is_at(text, start, end, one, words)]
    if fitting:
        return f'. Its offsets count {fitting[0]}: read them with offsets = "{fitting[0]}"'
    if text.count(words) == 1:
        at = text.index(words)
        return f": they are at {at}-{at + len(words)}"
    return ""


def _is_at(text: str, start: int, end: int, unit: OffsetUnit, words: str) -> bool:
    first, last = character_at(text, start, unit), character_at(text, end, unit)
    return first is not None and last is not None and text[first:last] == words


def _offsets(entity: Any) -> tuple[Any, Any]:
    if isinstance(entity, Mapping):
        return entity.get("start"), entity.get("end")
    return (entity[0], entity[1]) if isinstance(entity, (list, tuple)) and len(entity) == 3 else (None, None)


def _words(entity: Any) -> str | None:
    """The words that an entity states. Raises ValueError for two different ones."""
    found = list(_stated(entity))
    if len(set(found)) > 1:
        raise ValueError(f"{_name(entity)} states different words in {' and '.join(WORDS_KEYS)}")
    return found[0] if found else None


def _stated(entity: Any) -> Iterator[str]:
    for key in WORDS_KEYS if isinstance(entity, Mapping) else ():
        if isinstance(words := entity.get(key), str):
            yield words


def _name(entity: Any) -> str:
    start, end = _offsets(entity)
    label = entity.get("label") if isinstance(entity, Mapping) else entity[2]
    return f"entity {str(label)[:60]!r} at {start}-{end}"


def span_problem(text: str, spans: Iterable[EntitySpan]) -> str | None:
    """The first entity that exceeds the text or overlaps another. Curation checks the alignment with
    tokens."""
    last_end = 0
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if span.end > len(text):
            return f"{span_name(span)} ends after the text, which has {len(text)} characters"
        if span.start < last_end:
            return f"{span_name(span)} overlaps another entity"
        last_end = span.end
    return None


def span_name(span: EntitySpan) -> str:
    """Label and offsets of a span in messages."""
    return f"entity {span.label!r} at {span.start}-{span.end}"
