"""Input and analysis become a turn. Pure functions; unusable input raises InvalidInput."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pydantic import ValidationError

from karen_learner.contracts import Clock, Sanitizer
from karen_learner.corpora.parsing import describe
from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.records import (
    Analysis,
    ConversationMetadata,
    Turn,
    UserFeedback,
    check_id,
    check_text,
    new_id,
    replace_unfit,
    utc_now,
)
from karen_learner.records.offsets import OFFSETS_KEY, feedback_in_characters, span_problem
from karen_learner.settings import AnalysisSettings, PersonaSettings
from karen_learner.text_identity import clean_label

FeedbackInput = UserFeedback | Mapping[str, Any] | None
ANY = "*"


class CharacterSanitizer:
    """Replaces control characters and lone surrogates, which neither spaCy nor a database can hold."""

    def sanitize(self, text: str) -> str:
        return replace_unfit(text)


# Turns ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TurnDraft:
    """A turn with checked and sanitized input, without an analysis."""

    tenant_id: str
    user_id: str
    conversation_id: str
    turn_id: str
    user_text: str
    assistant_response: str
    feedback: UserFeedback | None
    occurred_at: datetime
    turn_id_given: bool

    @property
    def key(self) -> tuple[str, str]:
        """Identity of the turn."""
        return self.tenant_id, self.turn_id

    @property
    def has_spans(self) -> bool:
        """Whether the feedback refers to offsets of the text."""
        return self.feedback is not None and bool(self.feedback.corrected_entities)


def draft_turn(
    tenant_id: str,
    user_text: str,
    assistant_response: str,
    user_id: str,
    user_feedback: FeedbackInput = None,
    *,
    limits: AnalysisSettings,
    sanitizer: Sanitizer,
    conversation_id: str | None = None,
    turn_id: str | None = None,
    occurred_at: datetime | None = None,
    clock: Clock = utc_now,
) -> TurnDraft:
    """Check and sanitize the input of a turn. An empty `assistant_response` is valid, an empty text is not.

    Missing ids are generated; a missing time is now, and so is one of the future (see `check_time`).
    """
    checked = check_text(
        user_text, limit=limits.max_text_chars, what="user_text", setting="analysis.max_text_chars"
    )
    text = sanitizer.sanitize(checked)
    feedback = parse_feedback(user_feedback, checked)
    check_spans(feedback, text)
    return TurnDraft(
        tenant_id=check_id(tenant_id, "tenant_id"),
        user_id=check_id(user_id, "user_id"),
        conversation_id=_given_or_new(conversation_id, "conversation_id"),
        turn_id=_given_or_new(turn_id, "turn_id"),
        user_text=text,
        assistant_response=sanitizer.sanitize(_checked_response(assistant_response, limits)),
        feedback=feedback,
        occurred_at=check_time(occurred_at, clock()),
        turn_id_given=turn_id is not None,
    )


def complete_turn(draft: TurnDraft, analysis: Analysis, *, persona: str) -> Turn:
    """The turn to store; without content if consent is refused (see `Turn.without_content`)."""
    turn = Turn(
        metadata=_metadata(draft, analysis, persona=persona),
        user_text=draft.user_text,
        assistant_response=draft.assistant_response,
        entities=analysis.entities,
        out_of_scope=analysis.out_of_scope,
        feedback=draft.feedback,
    )
    return turn.permitted()


def _metadata(draft: TurnDraft, analysis: Analysis, *, persona: str) -> ConversationMetadata:
    feedback = draft.feedback
    return ConversationMetadata(
        conversation_id=draft.conversation_id,
        turn_id=draft.turn_id,
        tenant_id=draft.tenant_id,
        user_id=draft.user_id,
        intent_detected=analysis.intent,
        intent_confidence=analysis.intent_confidence,
        sentiment_detected=analysis.sentiment,
        sentiment_confidence=analysis.sentiment_confidence,
        persona_selected=persona,
        user_satisfaction=feedback and feedback.satisfaction_score,
        response_quality=feedback and feedback.response_quality,
        entities_extracted=tuple((item.text, item.label) for item in analysis.entities),
        linguistic_features=analysis.linguistic_features,
        feedback_provided=feedback is not None,
        correction_needed=feedback is not None
        and feedback.reports_error(
            intent=analysis.intent, sentiment=analysis.sentiment, entities=analysis.entities
        ),
        degraded=analysis.degraded,
        model_version=analysis.model_version,
        occurred_at=draft.occurred_at,
    )


# Feedback ------------------------------------------------------------------------------------


def parse_feedback(feedback: FeedbackInput, text: str | None = None) -> UserFeedback | None:
    """Feedback on a text as a record. Raises InvalidInput with the key, the value and the nearest known key.

    Corrected entities may state their words as `text` or `value`, and `offsets` names their unit (see
    `OffsetUnit`). Without a text, they are not checked.
    """
    if feedback is None:
        return None
    parsed = feedback if isinstance(feedback, UserFeedback) else _parse(feedback, text)
    for label in _labels(parsed):
        if replace_unfit(label) != label:
            raise InvalidInput(f"user_feedback: the label {label!r} contains control characters")
        if not clean_label(label):
            raise InvalidInput(f"user_feedback: the label {label!r} is blank")
    if parsed.comment is None:
        return parsed
    return parsed.model_copy(update={"comment": replace_unfit(parsed.comment)})


def _parse(feedback: Mapping[str, Any], text: str | None) -> UserFeedback:
    if not isinstance(feedback, Mapping):
        raise InvalidInput(f"user_feedback must be a mapping, not {type(feedback).__name__}")
    try:
        has_offsets = "corrected_entities" in feedback or OFFSETS_KEY in feedback
        values = dict(feedback_in_characters(feedback, text) if has_offsets else feedback)
    except ValueError as error:
        raise InvalidInput(f"user_feedback: {error}") from error
    if isinstance(values.get("comment"), str):
        values["comment"] = replace_unfit(values["comment"])
    try:
        return UserFeedback.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(f"user_feedback: {describe(error, UserFeedback)}") from error


def has_corrected_entities(feedback: FeedbackInput) -> bool:
    """Whether feedback, which may be unchecked, has corrected entities."""
    if isinstance(feedback, UserFeedback):
        return bool(feedback.corrected_entities)
    return isinstance(feedback, Mapping) and bool(feedback.get("corrected_entities"))


def _labels(feedback: UserFeedback) -> list[str]:
    spans = feedback.corrected_entities or ()
    named = [feedback.corrected_intent, feedback.corrected_sentiment, *(span.label for span in spans)]
    return [label for label in named if label is not None]


def check_spans(feedback: UserFeedback | None, text: str) -> None:
    """Raise InvalidInput if corrected entities do not fit the text."""
    spans = feedback.corrected_entities if feedback else None
    if spans and (problem := span_problem(text, spans)):
        raise InvalidInput(f"user_feedback: corrected_entities: {problem}")


def check_time(value: datetime | None, now: datetime) -> datetime:
    """A time in UTC; `now` if it is None. Raises InvalidInput for a time without time zone.

    A time after `now` counts as `now`: a wrong clock must not outweigh all later feedback.
    """
    if value is None:
        return now
    if not isinstance(value, datetime):
        raise InvalidInput(f"occurred_at must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise InvalidInput(
            f"occurred_at {value.isoformat()} has no time zone: write datetime(..., tzinfo=...)"
        )
    try:
        return min(value.astimezone(timezone.utc), now)
    except OverflowError as error:
        raise InvalidInput(f"occurred_at {value.isoformat()} is out of range in UTC") from error


def _given_or_new(value: str | None, what: str) -> str:
    return new_id() if value is None else check_id(value, what)


def _checked_response(response: str, limits: AnalysisSettings) -> str:
    return check_text(
        response,
        limit=limits.max_response_chars,
        what="assistant_response",
        setting="analysis.max_response_chars",
        may_be_blank=True,
    )


# Personas ------------------------------------------------------------------------------------


class PersonaRules:
    """Rules `<intent>/<sentiment> = persona`, with `*` for any. The most specific rule wins.

    The order: both given, intent given, sentiment given, neither, the default. Raises SettingsError for a
    rule of another form.
    """

    def __init__(self, settings: PersonaSettings) -> None:
        self._default = settings.default
        self._rules = dict(_parse_rule(key, persona) for key, persona in settings.rules.items())

    def select(self, intent: str | None, sentiment: str | None) -> str:
        """The persona for a detected intent and sentiment; only `*` matches None."""
        first = ANY if intent is None else intent
        second = ANY if sentiment is None else sentiment
        for key in ((first, second), (first, ANY), (ANY, second), (ANY, ANY)):
            if key in self._rules:
                return self._rules[key]
        return self._default


def _parse_rule(key: str, persona: str) -> tuple[tuple[str, str], str]:
    # An intent may contain a slash; a sentiment rarely does.
    intent, slash, sentiment = (part.strip() for part in key.rpartition("/"))
    if not (slash and intent and sentiment):
        raise SettingsError(
            f"the persona rule {key!r} is not of the form '<intent>/<sentiment>': write '*' for any, "
            f"for example '*/negative'"
        )
    if not persona.strip():
        raise SettingsError(f"the persona rule {key!r} names no persona")
    return (intent, sentiment), persona
