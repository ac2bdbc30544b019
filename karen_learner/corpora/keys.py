"""Names of the keys of a file: renamed, matched, and those that the library does not know."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from karen_learner.corpora.corpus_file import KNOWN_KEYS, TEXT_KEYS, TURN_KEYS, CorpusFile
from karen_learner.corpora.lines import CorruptExample
from karen_learner.corpora.parsing import IGNORED_KEYS, is_exported_turn, near_key
from karen_learner.records import TASKS

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
        if not isinstance(record, Mapping) or is_exported_turn(record):
            return record
        given = self._renamed(record)
        if problem := misspelt(given):
            raise CorruptExample(problem)
        foreign = [key for key in given if is_foreign(key)]
        if foreign:
            _require_text_and_label(given, foreign)
            self.ignored.update(dict.fromkeys(foreign))
        return {key: value for key, value in given.items() if key not in foreign}

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
    """The message about the first unknown key that resembles a known key that is missing."""
    given = set(keys)
    missing = (TURN_KEYS if "user_text" in given else TEXT_KEYS) - given
    for key in filter(is_foreign, keys):
        if near := near_key(key, missing):
            return f"unknown key {key!r}: did you mean {near!r}?"
    return None


def _require_text_and_label(given: Mapping[str, Any], foreign: list[str]) -> None:
    """Raise CorruptExample if the unknown keys may hold the text or the label of a record."""
    if not {"text", "user_text"} & given.keys():
        raise CorruptExample(
            f"needs 'text' or 'user_text', and has neither, but {named(foreign)}: name the key of the text, "
            f"such as --map {foreign[0]}=text"
        )
    if "text" in given and all(given.get(task) is None for task in TASKS):
        raise CorruptExample(
            f"the text has no label: neither intent, sentiment nor entities, but {named(foreign)}: name the "
            f"key of the label, such as --map {foreign[0]}=intent, or the tool with --format"
        )


def named(keys: Iterable[str]) -> str:
    """The keys in a message, at most MAX_NAMED of them."""
    several = list(keys)
    more = f" and {len(several) - MAX_NAMED} more" if len(several) > MAX_NAMED else ""
    return ", ".join(reprlib.repr(key) for key in several[:MAX_NAMED]) + more
