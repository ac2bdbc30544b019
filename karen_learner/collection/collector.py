"""Collection: a turn is checked, sanitized, analysed and stored; then its events are published."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cachetools import LRUCache

from karen_learner.analysis.fallback import answer_without_model
from karen_learner.analysis.spacy_analyzer import user_argument
from karen_learner.collection.turns import (
    CharacterSanitizer,
    FeedbackInput,
    PersonaRules,
    TurnDraft,
    check_spans,
    complete_turn,
    draft_turn,
    has_corrected_entities,
    parse_feedback,
)
from karen_learner.contracts import Analyzer, Clock, EventPublisher, MemoryStore, Sanitizer
from karen_learner.corpora.parsing import TurnInput
from karen_learner.errors import InvalidInput, LearnerClosed, UnknownTurn, trace_of
from karen_learner.events import EventBus, FeedbackAdded, TurnCollected
from karen_learner.records import Analysis, ConversationMetadata, Turn, UserFeedback, check_id, utc_now
from karen_learner.settings import Settings

logger = logging.getLogger(__name__)

RECENT_TURNS = 4_096
"""Number of recent turns for which a repetition is recognised without the store."""


class ConversationMetadataCollector:
    """Turns conversation into stored metadata. Returned metadata is committed.

    `sanitizer` (default: `CharacterSanitizer`) processes the user's text and the assistant's response before
    they are analysed and stored.
    """

    def __init__(
        self,
        store: MemoryStore,
        analyzer: Analyzer,
        settings: Settings,
        *,
        events: EventPublisher | None = None,
        sanitizer: Sanitizer | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._clock = clock
        self._store = store
        self._analyzer = analyzer
        self._settings = settings
        self._events: EventPublisher = events or EventBus()
        self._sanitizer = sanitizer or CharacterSanitizer()
        self._personas = PersonaRules(settings.personas)
        self._failing = False
        self._recent: LRUCache[tuple[str, str], bool] = LRUCache(RECENT_TURNS)

    async def collect(
        self,
        tenant_id: str,
        user_text: str,
        assistant_response: str,
        user_id: str,
        user_feedback: UserFeedback | Mapping[str, Any] | None = None,
        *,
        conversation_id: str | None = None,
        turn_id: str | None = None,
        occurred_at: datetime | None = None,
        analysis: Analysis | None = None,
    ) -> ConversationMetadata:
        """Analyse and store a turn. A present `analysis` of the text is stored in place of a new one.

        A stored `turn_id` is the same turn: its feedback is merged, and the metadata of the stored turn is
        returned. Raises InvalidInput, with nothing stored, and the errors of the store.
        """
        draft = draft_turn(
            tenant_id,
            user_text,
            assistant_response,
            user_id,
            user_feedback,
            limits=self._settings.analysis,
            sanitizer=self._sanitizer,
            conversation_id=conversation_id,
            turn_id=turn_id,
            occurred_at=occurred_at,
            clock=self._clock,
        )
        known = await self._known(draft)
        if known is not None:
            return await self._repeat(known, draft.feedback)
        return await self._store_new(draft, analysis or await self._analyze(draft))

    async def collect_input(self, tenant_id: str, turn: TurnInput) -> ConversationMetadata:
        """Collect a turn from a file. Raises InvalidInput if it names another tenant."""
        if turn.tenant_id not in (None, tenant_id):
            raise InvalidInput(f"the turn belongs to the tenant {turn.tenant_id!r}, not to {tenant_id!r}")
        arguments = {name: value for name, value in turn if name != "tenant_id"}
        return await self.collect(tenant_id, **arguments)

    async def add_feedback(
        self, tenant_id: str, turn_id: str, feedback: UserFeedback | Mapping[str, Any]
    ) -> ConversationMetadata:
        """Merge feedback into a stored turn. Raises UnknownTurn, or InvalidInput with nothing changed."""
        check_id(tenant_id, "tenant_id")
        check_id(turn_id, "turn_id")
        turn: Turn | None = None
        if has_corrected_entities(feedback):
            turn = await self._store.get_turn(tenant_id, turn_id)
            if turn is None:
                raise UnknownTurn(f"the tenant {tenant_id!r} has no turn {turn_id!r}")
        parsed = _required(feedback, None if turn is None else turn.user_text)
        if turn is not None:
            _check_stored_spans(parsed, turn)
        return await self._merge(tenant_id, turn_id, parsed)

    async def _known(self, draft: TurnDraft) -> Turn | None:
        """The stored turn, if it is recent or its text is needed. This read costs more than an analysis.

        The store recognises all other repetitions. But spans must be checked against the stored text.
        """
        if draft.key in self._recent or (draft.turn_id_given and draft.has_spans):
            return await self._store.get_turn(draft.tenant_id, draft.turn_id)
        return None

    async def _repeat(self, known: Turn, feedback: UserFeedback | None) -> ConversationMetadata:
        if feedback is None:
            return known.metadata
        _check_stored_spans(feedback, known)
        return await self._merge(known.tenant_id, known.turn_id, feedback)

    async def _merge(self, tenant_id: str, turn_id: str, feedback: UserFeedback) -> ConversationMetadata:
        turn = await self._store.add_feedback(tenant_id, turn_id, feedback)
        self._publish_feedback(turn, feedback)
        return turn.metadata

    async def _store_new(self, draft: TurnDraft, analysis: Analysis) -> ConversationMetadata:
        persona = self._personas.select(analysis.intent, analysis.sentiment)
        turn = await self._store.add_turn(complete_turn(draft, analysis, persona=persona))
        if draft.turn_id_given:
            self._recent[draft.key] = True
        self._events.publish(
            TurnCollected(tenant_id=turn.tenant_id, turn_id=turn.turn_id, degraded=turn.metadata.degraded)
        )
        if draft.feedback is not None:
            self._publish_feedback(turn, draft.feedback)
        return turn.metadata

    def _publish_feedback(self, turn: Turn, feedback: UserFeedback) -> None:
        self._events.publish(
            FeedbackAdded(
                tenant_id=turn.tenant_id,
                turn_id=turn.turn_id,
                is_correction=feedback.is_correction,
                turn=turn,
            )
        )

    async def _analyze(self, draft: TurnDraft) -> Analysis:
        """The analysis of the analyzer; that of the fallback if the analyzer fails."""
        text, tenant_id = draft.user_text, draft.tenant_id
        try:
            analysis = await self._analyzer.analyze(
                text, tenant_id=tenant_id, **user_argument(self._analyzer, draft.user_id)
            )
            if not isinstance(analysis, Analysis):
                raise TypeError(f"it returned {type(analysis).__name__}, not an Analysis")
        except LearnerClosed:
            raise
        except Exception as error:  # the analyzer may be foreign code
            self._log_failure(error)
            return await answer_without_model(text, self._settings.of(tenant_id).analysis.fallback)
        self._log_success()
        return analysis

    def _log_failure(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            logger.error("the analyzer failed, the fallback answers instead: %s", trace_of(error))

    def _log_success(self) -> None:
        if self._failing:
            self._failing = False
            logger.warning("the analyzer answers again")


def _check_stored_spans(feedback: UserFeedback, turn: Turn) -> None:
    if turn.user_text is not None:
        check_spans(feedback, turn.user_text)


def _required(feedback: FeedbackInput, text: str | None) -> UserFeedback:
    parsed = parse_feedback(feedback, text)
    if parsed is None:
        raise InvalidInput("feedback must be a mapping or a UserFeedback, not None")
    return parsed
