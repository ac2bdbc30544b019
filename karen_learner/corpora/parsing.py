"""The values of a line become an example or a turn, or an error that names the key."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeGuard, TypeVar

from pydantic import BaseModel, Field, ValidationError

from karen_learner.components.online.sample_weights import MAX_SAMPLE_WEIGHT
from karen_learner.corpora.lines import CorruptExample, Line
from karen_learner.records import LabelledText, Record, Turn, UserFeedback, replace_unfit, with_clean_labels
from karen_learner.records.offsets import OffsetUnit, feedback_in_characters, in_characters, span_problem

IGNORED_KEYS = frozenset({"id", "dialogue", "turn", "mood"})
"""Keys of other corpora, and the `mood` of earlier exports."""
TEXT_KEYS = ("text", "user_text", "assistant_response")
UNQUOTED_KEYS = (*TEXT_KEYS, "user_feedback", "comment")
"""Keys of texts of users. Messages do not quote their values."""

SIMILAR = 0.75
"""Least similarity of a misspelt key. "user" and "user_id" have 0.73, "intnt" and "intent" 0.91."""

ModelT = TypeVar("ModelT", bound=BaseModel)


class CorpusLine(LabelledText):
    """A line of a corpus that a cycle writes for its worker.

    `held_out` has bit k if shadow k does not learn from the line. Shadow `shadow` predicts the line.
    """

    importance_weight: float = Field(default=1.0, gt=0.0, le=MAX_SAMPLE_WEIGHT)
    held_out: int = Field(default=0, ge=0)
    shadow: int = Field(default=0, ge=0)


class TurnInput(Record):
    """The arguments of `collect_conversation_metadata`."""

    user_text: str
    assistant_response: str
    user_id: str
    user_feedback: UserFeedback | None = None
    conversation_id: str | None = None
    turn_id: str | None = None
    occurred_at: datetime | None = None
    tenant_id: str | None = None


ImportedLine = Line[LabelledText | TurnInput]


def corpus_line(values: object) -> CorpusLine:
    """The example of a line; its labels may be unknown. Raises CorruptExample."""
    return _validated(_keys_and_values(values), CorpusLine)


def labelled_text(values: object) -> LabelledText:
    """The example of a line with a text; its labels may be unknown. Raises CorruptExample."""
    labelled = _clean(_validated(_keys_and_values(values), LabelledText))
    require_text(labelled)
    return labelled


def require_text(labelled: LabelledText) -> None:
    """Raise CorruptExample for an empty text."""
    if not labelled.text.strip():
        raise CorruptExample("the text is empty")


def imported_line(line: int, values: object) -> ImportedLine:
    """A gold example (values with `text`) or a turn (values with `user_text`)."""
    return Line(line, values).parsed(gold_or_turn)


def gold_or_turn(values: object) -> LabelledText | TurnInput:
    """The value of an imported line. Raises CorruptExample."""
    if is_exported_turn(values):
        return _exported_turn(values)
    given = _keys_and_values(values)
    if ("text" in given) == ("user_text" in given):
        found = "both" if "text" in given else "neither"
        raise CorruptExample(f"needs 'text' (a labelled text) or 'user_text' (a turn), and has {found}")
    return _gold(given) if "text" in given else _validated(given, TurnInput)


def is_exported_turn(values: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether values are those of a turn that `export` wrote."""
    if not isinstance(values, Mapping) or "metadata" not in values or "user_id" in values:
        return False
    metadata = values["metadata"]
    return isinstance(metadata, Mapping) and {"turn_id", "conversation_id"} <= metadata.keys()


def _exported_turn(values: Mapping[str, Any]) -> TurnInput:
    """The input of a turn that `export` wrote, of any tenant.

    Its analysis is left out: an import analyses the text again.
    """
    turn = _validated(values, Turn)
    if turn.user_text is None:
        raise CorruptExample("the turn has no text: its user refused or withdrew consent")
    metadata = turn.metadata
    return TurnInput(
        user_text=turn.user_text,
        assistant_response=turn.assistant_response or "",
        user_id=metadata.user_id,
        user_feedback=turn.feedback,
        conversation_id=metadata.conversation_id,
        turn_id=metadata.turn_id,
        occurred_at=metadata.occurred_at,
    )


def values_in_characters(values: Mapping[str, Any], unit: OffsetUnit) -> Mapping[str, Any]:
    """The values of a record with the offsets of its entities in characters. Raises CorruptExample."""
    text, user_text, feedback = values.get("text"), values.get("user_text"), values.get("user_feedback")
    changes: dict[str, Any] = {}
    try:
        if unit != "characters" and isinstance(text, str) and "entities" in values:
            changes["entities"] = in_characters(text, values["entities"], unit)
        if isinstance(feedback, Mapping) and isinstance(user_text, str):
            changes["user_feedback"] = feedback_in_characters(feedback, user_text, unit)
    except ValueError as error:
        raise CorruptExample(str(error)) from error
    return {**values, **changes} if changes else values


def _keys_and_values(values: object) -> dict[str, Any]:
    """The values without ignored keys, and with texts that spaCy and a database can hold."""
    if not isinstance(values, Mapping):
        raise CorruptExample(f"expected an object with keys, found {type(values).__name__}")
    return {
        key: replace_unfit(value) if key in TEXT_KEYS and isinstance(value, str) else value
        for key, value in values.items()
        if key not in IGNORED_KEYS
    }


def _gold(given: Mapping[str, Any]) -> LabelledText:
    labelled = _clean(_validated(given, LabelledText))
    require_text(labelled)
    if not labelled.tasks:
        raise CorruptExample("the text has no label: neither intent, sentiment nor entities")
    if problem := span_problem(labelled.text, labelled.entities or ()):
        raise CorruptExample(problem)
    return labelled


def _clean(labelled: LabelledText) -> LabelledText:
    try:
        return with_clean_labels(labelled)
    except ValueError as error:
        raise CorruptExample(str(error)) from error


def _validated(given: Mapping[str, Any], kind: type[ModelT]) -> ModelT:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise CorruptExample(describe(error, kind)) from error


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence with every key, its value and its problem."""
    return "; ".join(_describe_item(item, model) for item in error.errors())


def _describe_item(item: Any, model: type[BaseModel]) -> str:
    where = ".".join(map(str, item["loc"])) or "the value"
    if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
        return unknown_key(where, model.model_fields)
    if item["type"] == "missing":
        return f"{where} is missing"
    if item["loc"] and item["loc"][-1] in UNQUOTED_KEYS:
        return f"{where}: {item['msg']}"
    return f"{where}: {item['msg']} (got {reprlib.repr(item['input'])})"


def unknown_key(name: str, known: Iterable[str]) -> str:
    """The message about an unknown key, with a similar known key if there is one."""
    near = near_key(name, known)
    return f"unknown key {name!r}" + (f": did you mean {near!r}?" if near else "")


def near_key(name: str, known: Iterable[str]) -> str | None:
    """The known key that a name resembles: a ratio of difflib of at least 0.75."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=SIMILAR)
    return near[0] if near else None
