"""What a line of an imported file holds: a labelled text or a turn, or the reason why neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from karen_learner.corpora.problems import describe, span_problem
from karen_learner.records import LabelledText, Record, UserFeedback, replace_unfit

IGNORED_KEYS = frozenset({"id", "dialogue", "turn", "mood"})
"""Keys of other corpora, and the `mood` of earlier exports."""
TEXT_KEYS = ("text", "user_text", "assistant_response")


class TurnInput(Record):
    """The arguments of `collect_conversation_metadata`, as a line of a file gives them."""

    user_text: str
    assistant_response: str
    user_id: str
    user_feedback: UserFeedback | None = None
    conversation_id: str | None = None
    turn_id: str | None = None
    occurred_at: datetime | None = None
    tenant_id: str | None = None


@dataclass(frozen=True)
class ImportedLine:
    """A line, counted from 1, with its `value`, or the `error` for which it cannot be used."""

    line: int
    value: LabelledText | TurnInput | None = None
    error: str | None = None


def imported_line(line: int, values: object) -> ImportedLine:
    """Read the values of a line: with `text` it is gold, with `user_text` a turn."""
    if not isinstance(values, Mapping):
        return ImportedLine(line, error=f"expected an object with keys, found {type(values).__name__}")
    given = {key: _fit(key, value) for key, value in values.items() if key not in IGNORED_KEYS}
    if ("text" in given) == ("user_text" in given):
        found = "both" if "text" in given else "neither"
        return ImportedLine(
            line, error=f"needs 'text' (a labelled text) or 'user_text' (a turn), and has {found}"
        )
    return _labelled(line, given) if "text" in given else _validated(line, given, TurnInput)


def _fit(key: str, value: Any) -> Any:
    return replace_unfit(value) if key in TEXT_KEYS and isinstance(value, str) else value


def _labelled(line: int, given: Mapping[str, Any]) -> ImportedLine:
    imported = _validated(line, given, LabelledText)
    if isinstance(imported.value, LabelledText):
        problem = _problem(imported.value)
        return ImportedLine(line, error=problem) if problem else imported
    return imported


def _problem(labelled: LabelledText) -> str | None:
    if not labelled.text.strip():
        return "the text is empty"
    if not labelled.tasks:
        return "the text carries no label: neither intent, sentiment nor entities"
    return span_problem(labelled.text, labelled.entities or ())


def _validated(line: int, given: Mapping[str, Any], kind: type[BaseModel]) -> ImportedLine:
    try:
        return ImportedLine(line, kind.model_validate(given))  # type: ignore[arg-type]
    except ValidationError as error:
        return ImportedLine(line, error=describe(error, kind))
