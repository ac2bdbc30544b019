"""Outcomes of predictions and attempts, and the readings that monitoring computes from them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from karen_learner.errors import InvalidInput
from karen_learner.records.base import Record, Score, new_id, utc_now

OutcomeSource = Literal["turn", "agent_run", "accuracy", "attempt"]
"""Origin of an outcome: feedback on a turn, a run of an agent, a prediction whose answer became known, or an
attempt with a strategy."""
AlertLevel = Literal["info", "warning", "critical"]

TURN_OUTCOME = "turn/"
"""Prefix of the `outcome_id` of a turn."""

MAX_NAME_CHARS = 200
MAX_VALUE_CHARS = 1_000
"""Characters of a stored prediction or answer as JSON. A longer one is not stored; its score is."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Outcome(Record):
    """A prediction or an attempt, and its result. None: unknown.

    `score` (0 to 1) is the agreement of `predicted` and `actual` (see `monitoring/scores.py`). `success` is
    that of an attempt, `rating` (0 to 1) that of a user. `known_at` is the time at which the result became
    known. `version` is that of the model, `task_id` the turn or task of the host. `propensity` is the
    probability with which the strategy was chosen.
    """

    outcome_id: str = Field(default_factory=new_id)
    known_at: datetime = Field(default_factory=utc_now)
    source: OutcomeSource
    agent: Name
    agent_type: Name | None = None
    strategy: Name | None = None
    domain: Name | None = None
    version: Name | None = None
    task_id: str | None = None
    predicted: Any = None
    actual: Any = None
    score: Score | None = None
    success: bool | None = None
    rating: Score | None = None
    error_type: Name | None = None
    duration_ms: Amount | None = None
    cost: Amount | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    propensity: Score | None = None


class Measures(Record):
    """Sums over outcomes. None: no outcome has the value.

    Latencies are quantiles of a histogram with a relative error below 3 %. `cost` and `tokens` are totals.
    """

    outcomes: int = 0
    avg_accuracy: Score | None = None
    success_rate: Score | None = None
    error_rate: Score | None = None
    avg_rating: Score | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    cost: float = 0.0
    tokens: int = 0
    scored: int = 0
    attempts: int = 0


class SystemMetrics(Measures):
    """The measures of a window of `window_minutes`, and of each agent, strategy and domain in it."""

    window_minutes: int
    by_agent: Mapping[str, Measures] = Field(default_factory=dict)
    by_strategy: Mapping[str, Measures] = Field(default_factory=dict)
    by_domain: Mapping[str, Measures] = Field(default_factory=dict)


class Alert(Record):
    """A reading that passed a threshold, or a degradation. It contains no text of a user."""

    level: AlertLevel
    reading: str
    message: str
    details: Mapping[str, float | int | str | None] = Field(default_factory=dict)
    at: datetime = Field(default_factory=utc_now)


class HealthPart(Record):
    """One part of a health score: 100 if the reading meets its threshold, less in proportion otherwise."""

    reading: str
    value: float
    threshold: float
    points: Annotated[float, Field(ge=0.0, le=100.0)]


class PerformanceReport(Record):
    """Measures, a health score from 0 to 100 (the mean of its parts; None without outcomes), and advice."""

    generated_at: datetime = Field(default_factory=utc_now)
    tenant_id: str
    health_score: Annotated[float, Field(ge=0.0, le=100.0)] | None
    parts: tuple[HealthPart, ...]
    metrics: SystemMetrics
    alerts: tuple[Alert, ...]
    recommendations: tuple[str, ...]


class RetrainingResult(Record):
    """Result of a retraining on request. `message` says why it changed nothing."""

    success: bool
    model_type: str
    retrain_type: Literal["incremental", "full", "micro", "none"]
    events_processed: int = 0
    duration_ms: float = 0.0
    reason: str
    timestamp: datetime = Field(default_factory=utc_now)
    message: str | None = None


def check_name(value: str, what: str) -> str:
    """A name of 1 to 200 characters. Raises InvalidInput."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARS:
        found = f"{len(value):,} characters" if isinstance(value, str) else type(value).__name__
        raise InvalidInput(f"{what} must be a text of 1 to {MAX_NAME_CHARS} characters, not {found}")
    return value


def check_amount(value: float, what: str) -> float:
    """A finite number that is not negative. Raises InvalidInput."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        raise InvalidInput(f"{what} must be a finite number of at least 0, not {value!r:.40}")
    return value


def storable(value: Any) -> Any:
    """The value if it is JSON of at most 1,000 characters, else None."""
    try:
        return value if len(json.dumps(value)) <= MAX_VALUE_CHARS else None
    except (TypeError, ValueError, RecursionError):
        return None
