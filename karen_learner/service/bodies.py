"""Bodies of requests and answers that are no records of the learner."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

from karen_learner.cycle import RequestedMode
from karen_learner.records import CycleMode, Task
from karen_learner.records.access import AuditEntry
from karen_learner.service.problems import Problem

MAX_ITEMS = 1_000
Text = Annotated[str, Field(max_length=1_000_000)]
Id = Annotated[str, Field(min_length=1, max_length=1_000)]
# `FailFast`: the answer names the errors of the first wrong item, not those of a thousand items.


class Body(BaseModel):
    """A body without unknown keys."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class AnalyzeBody(Body):
    texts: Annotated[
        list[Text], FailFast(), Field(min_length=1, max_length=MAX_ITEMS, examples=[["where is my bill?"]])
    ]
    user_id: Id | None = Field(None, examples=["user-1"])


class TurnBody(Body):
    user_text: Text = Field(examples=["where is my bill?"])
    assistant_response: Text = Field(examples=["Your bill is under Account."])
    user_id: Id = Field(examples=["user-1"])
    user_feedback: dict[str, Any] | None = Field(None, examples=[{"corrected_intent": "billing"}])
    conversation_id: Id | None = None
    turn_id: Id | None = None
    occurred_at: datetime | None = None


class TurnsBody(Body):
    turns: Annotated[list[TurnBody], FailFast(), Field(min_length=1, max_length=MAX_ITEMS)]


class StoredTurn(BaseModel):
    """A stored turn of a batch, or the problem of one that was not stored."""

    turn_id: str | None = None
    intent: str | None = None
    sentiment: str | None = None
    problem: Problem | None = None


class StoredTurns(BaseModel):
    stored: int
    turns: list[StoredTurn]


class SpooledTurn(BaseModel):
    """A turn that waits for its analysis, or the problem of one that is not stored."""

    turn_id: str | None = None
    problem: Problem | None = None


class SpooledTurns(BaseModel):
    spooled: int
    turns: list[SpooledTurn]


class CycleBody(Body):
    mode: RequestedMode = "auto"
    force: bool = False
    reason: Annotated[str, Field(max_length=1_000)] | None = None


class BootstrapBody(Body):
    examples: Annotated[
        list[dict[str, Any]],
        FailFast(),
        Field(min_length=1, max_length=100_000, examples=[[{"text": "my bill", "intent": "billing"}]]),
    ]
    mode: CycleMode = "full"
    replace: bool = False


class RollbackBody(Body):
    version: Id | None = Field(None, description="Default: the parent of the champion.")
    reason: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None


class NoteBody(Body):
    note: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None


class LabelBody(Body):
    new_name: Annotated[str, Field(min_length=1, max_length=200)]
    task: Task | None = None
    dry_run: bool = False


class RetireBody(Body):
    task: Task | None = None
    dry_run: bool = False


class ExamplesBody(Body):
    example_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_ITEMS)] | None = Field(
        None, description="Default: all examples that wait because of a rollback."
    )


class Decided(BaseModel):
    examples: int


class RunBody(Body):
    run_id: Id
    agent_name: Annotated[str, Field(min_length=1, max_length=200)]
    agent_type: Annotated[str, Field(min_length=1, max_length=200)]
    status: Annotated[str, Field(examples=["success"])]
    duration_ms: float
    tokens_used: int = 0
    cost: float = 0.0
    strategy: str | None = None
    domain: str | None = None
    error_type: str | None = None


class AccuracyBody(Body):
    agent_name: Annotated[str, Field(min_length=1, max_length=200)]
    task_id: Id
    predicted_outcome: Any
    actual_outcome: Any
    feedback_source: Annotated[str, Field(min_length=1, max_length=200)]


class Score(BaseModel):
    score: float


class RetrainingBody(Body):
    tenant_id: Id = "default"
    reason: Annotated[str, Field(min_length=1, max_length=1_000)] = "Manual trigger"
    force_full_retrain: bool = False


class Retraining(BaseModel):
    success: bool
    model_type: str
    retrain_type: str
    events_processed: int
    duration_ms: float


class RetrainingAnswer(BaseModel):
    status: Annotated[str, Field(examples=["success"])]
    message: str
    result: Retraining
    timestamp: datetime


class Audited(AuditEntry):
    """An entry of the audit log. Pass `seq` of the last one as `before` to continue."""

    seq: int
