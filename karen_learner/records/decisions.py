"""The production log: decisions of any part of a host's AI."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, AliasChoices, Field, JsonValue

from karen_learner.records.base import MAX_ID_CHARS, Record, Score, check_id, replace_unfit
from karen_learner.records.outcomes import Amount, Name


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


def _fit_id(value: str) -> str:
    return check_id(value, "the id")


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS), AfterValidator(_fit_id)]
FitName = Annotated[Name, AfterValidator(replace_unfit)]
Time = Annotated[datetime, AfterValidator(_in_utc)]
"""A time; without a time zone it is read as UTC."""
Points = Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)]
Content = Mapping[str, JsonValue]


class DecisionReasoning(Record):
    """How a decision was made. `processing_time` is in seconds."""

    method_used: FitName
    confidence_level: Score | None = None
    processing_time: Amount | None = None
    success: bool | None = None


class TrainingLabels(Record):
    """Judgements about a decision. `success_indicator`: whether its result was accepted."""

    quality_score: Points | None = None
    success_indicator: bool | Score | None = None
    improvement_potential: Points | FitName | None = None


class Decision(Record):
    """An entry of the production log. An entry with a stored `entry_id` is the same entry.

    `log_type` names the part that decided, `subject` (or `lead_identifier`) its object. `input_data` and
    `output_data` may contain texts of users. `user_id` and `turn_id` connect them with a person and a turn.
    With `consent` false they are not stored. Without a `timestamp` the time of arrival counts.
    """

    entry_id: Id | None = None
    log_type: FitName
    session_id: Id
    timestamp: Time | None = None
    subject: Id | None = Field(default=None, validation_alias=AliasChoices("subject", "lead_identifier"))
    user_id: Id | None = None
    turn_id: Id | None = None
    consent: bool | None = None
    input_data: Content = Field(default_factory=dict)
    output_data: Content = Field(default_factory=dict)
    decision_reasoning: DecisionReasoning
    training_labels: TrainingLabels = TrainingLabels()


class LogEntry(NamedTuple):
    """A row of the log. A corrupt entry has a `reason` and no decision."""

    key: str
    at: datetime
    decision: Decision | None
    template: str | None = None
    cluster: int = 0
    reason: str | None = None


class LogSums(NamedTuple):
    """Sums over the entries of a log type, a cluster and a period. `counts` and `totals` are by metric."""

    log_type: str
    cluster: int
    after: bool
    entries: int
    counts: Mapping[str, int]
    totals: Mapping[str, float]


class LogReport(Record):
    """Result of an import of log entries. `reasons` counts the corrupt ones by reason."""

    entries: int = 0
    added: int = 0
    duplicates: int = 0
    corrupt: int = 0
    reasons: Mapping[str, int] = Field(default_factory=dict)
