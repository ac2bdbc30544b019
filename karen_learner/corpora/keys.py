"""Names of the keys of a file: renamed, matched, and those that the library does not know."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from karen_learner.corpora.corpus_file import FEEDBACK_KEYS, KNOWN_KEYS, TEXT_KEYS, TURN_KEYS, CorpusFile
from karen_learner.corpora.lines import CorruptExample
from karen_learner.corpora.parsing import IGNORED_KEYS, is_exported_turn, near_key, values_in_characters
from karen_learner.records import TASKS

PLAIN_KEYS = TEXT_KEYS | TURN_KEYS | IGNORED_KEYS
"""Keys of a record that is read as it is."""
TEXTS = frozenset({"text", "user_text"})
REQUIRED_OF_TURNS = ("assistant_response", "user_id")
MAX_NAMED = 8
"""Maximum number of keys in a message."""


class RecordKeys:
    """The values of the records of one file by our keys.

    Unknown keys are ignored and collected in `ignored`, unless one resembles a key that the record lacks.
    """

    def __init__(self, file: CorpusFile) -> None:
        self._file = file
        self.ignored: dict[str, None] = {}

    def values(self, record: object) -> object:
        """The values of a record by our keys; anything that is no record as it is. Raises CorruptExample."""
        if isinstance(record, dict) and not self._file.keys and record.keys() <= PLAIN_KEYS:
            return values_in_characters(record, self._file.offsets)  # most records: a third of the time
        if not isinstance(record, Mapping) or is_exported_turn(record):
            return record
        given = self._renamed(record)
        if problem := misspelt(given):
            raise CorruptExample(problem)
        foreign = {key: value for key, value in given.items() if is_foreign(key)}
        if foreign:
            _require_named_keys(given, foreign)
            self.ignored.update(dict.fromkeys(foreign))
        values = _with_feedback({key: value for key, value in given.items() if key not in foreign})
        return values_in_characters(values, self._file.offsets)

    def _renamed(self, record: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for key, value in record.items():
            name = self._file.name(key)
            if name in given:
                raise CorruptExample(f"{name!r} is given twice, the second time as {key!r}")
            given[name] = value
        return given


def is_foreign(key: str) -> bool:
    """Whether the library does not know a key."""
    return key not in KNOWN_KEYS and key not in IGNORED_KEYS


def misspelt(keys: Iterable[str]) -> str | None:
    """The message about the first unknown key that resembles a known key that is missing.

    Without a text, a key that resembles another one does not help.
    """
    given = set(keys)
    known = TURN_KEYS | FEEDBACK_KEYS if "user_text" in given else TEXT_KEYS
    missing = known - given if given & TEXTS else TEXTS
    for key in filter(is_foreign, keys):
        if near := near_key(key, missing):
            return f"unknown key {key!r}: did you mean {near!r}?"
    return None


def _with_feedback(given: dict[str, Any]) -> dict[str, Any]:
    """The values of a turn with the feedback that stands beside its other keys. Raises CorruptExample."""
    beside = {key: value for key, value in given.items() if key in FEEDBACK_KEYS}
    if not beside or "user_text" not in given:
        return given
    if given.get("user_feedback") is not None:
        raise CorruptExample(f"has 'user_feedback', and {named(beside)} beside it")
    return {key: value for key, value in given.items() if key not in beside} | {"user_feedback": beside}


def _require_named_keys(given: Mapping[str, Any], foreign: Mapping[str, Any]) -> None:
    """Raise CorruptExample if the unknown keys may hold the text, the label or a required part."""
    if not TEXTS & given.keys():
        hint = _hint(foreign, "the key of the text", "text")
        raise CorruptExample(f"needs 'text' or 'user_text', and has neither, but {hint}")
    if "text" in given and all(given.get(task) is None for task in TASKS):
        hint = _hint(foreign, "the key of the label", "intent")
        raise CorruptExample(
            f"the text has no label: neither intent, sentiment nor entities, but {hint}, or the tool with "
            "--format"
        )
    for key in REQUIRED_OF_TURNS if "user_text" in given else ():
        if key not in given:
            raise CorruptExample(f"{key} is missing, but has {_hint(foreign, 'its key', key)}")


def _hint(foreign: Mapping[str, Any], what: str, ours: str) -> str:
    """The unknown keys, and how to name one that has a text."""
    example = next((key for key, value in foreign.items() if isinstance(value, str)), None)
    advice = "" if example is None else f", such as --map {example}={ours}"
    return f"{named(foreign)}: name {what}{advice}"


def named(keys: Iterable[str]) -> str:
    """The keys in a message, at most MAX_NAMED of them."""
    several = list(keys)
    more = f" and {len(several) - MAX_NAMED} more" if len(several) > MAX_NAMED else ""
    return ", ".join(reprlib.repr(key) for key in several[:MAX_NAMED]) + more
