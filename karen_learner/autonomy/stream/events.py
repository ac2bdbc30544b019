"""Events as bytes or mappings: validation, keys, outcomes, and the published JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from karen_learner.errors import InvalidInput
from karen_learner.monitoring.scores import match_score
from karen_learner.records import Outcome, new_id, storable
from karen_learner.records.stream import RESULTS, InboxEvent, NewEvent, StreamEvent

MAX_EVENT_BYTES = 262_144
MAX_REASON_CHARS = 500
SCHEMA_FILE = Path(__file__).with_name("event.schema.json")
"""The JSON schema of an event, for producers in any language."""


def read_event(raw: bytes | str | Mapping[str, Any] | StreamEvent) -> StreamEvent:
    """The event. Raises InvalidInput with the reason, without values of the event."""
    if isinstance(raw, StreamEvent):
        return raw
    try:
        content = to_json(dict(raw)) if isinstance(raw, Mapping) else raw
        if len(content) > MAX_EVENT_BYTES:
            raise InvalidInput(
                f"the event has {len(content):,} bytes, more than the {MAX_EVENT_BYTES:,} allowed"
            )
        return StreamEvent.model_validate_json(content, strict=True)
    except (ValidationError, PydanticSerializationError, RecursionError) as error:
        raise InvalidInput(f"the event is malformed: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "its values are no JSON"
    problems = (f"{'.'.join(map(str, one['loc'])) or 'event'}: {one['msg']}" for one in error.errors())
    return "; ".join(problems)[:MAX_REASON_CHARS]


def keyed(event: StreamEvent, position: str | None = None) -> NewEvent:
    """The event under its idempotency key: its id, else its position in a stream, else a new id."""
    if event.event_id is not None:
        return NewEvent(f"id:{event.event_id}", event)
    return NewEvent(f"at:{position}" if position is not None else f"new:{new_id()}", event)


def score_of(event: StreamEvent) -> float | None:
    """The score of an event: its own, else the agreement of prediction and answer."""
    if event.score is not None or event.actual_outcome is None:
        return event.score
    return match_score(event.predicted_outcome, event.actual_outcome)


def outcome_of(one: InboxEvent) -> Outcome:
    """The outcome of an event, for monitoring. A repeated event has the same `outcome_id`."""
    event = one.event
    return Outcome(
        outcome_id=f"event:{one.key}",
        known_at=one.at,
        source="attempt",
        agent=event.agent_name,
        agent_type=event.agent_type,
        strategy=event.chosen,
        domain=event.domain,
        task_id=event.task_id,
        predicted=storable(event.predicted_outcome),
        actual=storable(event.actual_outcome),
        score=score_of(event),
        success=event.success,
        rating=event.rating,
        error_type=event.error_type,
        duration_ms=event.duration_ms,
        cost=event.cost,
        tokens=event.tokens_used,
    )


def event_schema() -> dict[str, Any]:
    """The JSON schema of an event (draft 2020-12)."""
    schema = StreamEvent.model_json_schema()
    needed = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in RESULTS]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "anyOf": needed}
