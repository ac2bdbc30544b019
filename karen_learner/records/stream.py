"""Events of a stream: outcomes and turns that a host sends, and their rows in the inbox."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AwareDatetime, Field, JsonValue, model_validator

from karen_learner.records.base import MAX_ID_CHARS, Record, Score
from karen_learner.records.outcomes import Amount, Name
from karen_learner.records.turns import UserFeedback

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS, pattern=r"^[^\x00]*$")]
InboxState = Literal["waiting", "ready", "learned"]
"""`waiting`: in the inbox alone. `ready`: its outcome or turn is stored. `learned`: a retraining used it."""

RESULTS = ("success", "score", "rating", "actual_outcome", "turn")


class StreamTurn(Record):
    """A turn of a conversation, for the learner of the tenant."""

    user_text: Annotated[str, Field(min_length=1)]
    assistant_response: str = ""
    user_id: Id
    conversation_id: Id | None = None
    user_feedback: UserFeedback | None = None


class StreamEvent(Record):
    """An outcome of an agent, or a turn. `event_id` makes a repeated event the same event.

    At least one of `success`, `score`, `rating`, `actual_outcome` and `turn` is needed. `occurred_at` is the
    time of the result; without it the time of arrival. Names are those of `PerformanceMonitor`.
    """

    event_id: Name | None = None
    tenant_id: Id | None = None
    occurred_at: AwareDatetime | None = None
    agent_name: Name
    agent_type: Name | None = None
    strategy: Name | None = None
    domain: Name | None = None
    task_id: Id | None = None
    success: bool | None = None
    score: Score | None = None
    rating: Score | None = None
    predicted_outcome: JsonValue = None
    actual_outcome: JsonValue = None
    error_type: Name | None = None
    duration_ms: Amount | None = None
    tokens_used: Annotated[int, Field(ge=0, lt=2**63)] = 0
    cost: Amount = 0.0
    turn: StreamTurn | None = None

    @model_validator(mode="after")
    def _check_result(self) -> Self:
        if all(getattr(self, name) is None for name in RESULTS):
            raise ValueError(f"the event needs one of {', '.join(RESULTS)}")
        return self

    @property
    def chosen(self) -> str:
        """The strategy; without one the agent."""
        return self.strategy or self.agent_name


class NewEvent(NamedTuple):
    """An event under its idempotency key."""

    key: str
    event: StreamEvent


class InboxEvent(NamedTuple):
    """An event in the inbox. `at` is its time, or that of its arrival."""

    seq: int
    key: str
    at: datetime
    event: StreamEvent

    @property
    def turn_id(self) -> str:
        """The id of the turn in the event, if it has one."""
        return f"event:{self.key}"


class EventSums(NamedTuple):
    """Sums over the events that arrived in an hour, counted since 1970. `delay_s` is their total delay."""

    hour: int
    after: bool
    events: int
    delay_s: float
    waiting: int


class UpdaterMetrics(Record):
    """State of a `RealTimeModelUpdater`.

    `event_buffer_size` events are in memory, `waiting` ones in the inbox alone. `source` describes the
    connection to Kafka; it is empty for events of this process.
    """

    running: bool
    update_strategy: str
    event_buffer_size: int
    event_buffer_capacity: int
    waiting: int
    events_received: int
    duplicates: int
    events_processed: int
    malformed: int
    retrainings: int
    last_retraining: Mapping[str, Any] | None
    source: Mapping[str, Any]
