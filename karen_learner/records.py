"""The frozen values that travel between the stages. No I/O, no spaCy.

Times are timezone-aware UTC. Character offsets are Python (code point) offsets, end exclusive.
Scores and probabilities are in 0..1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Task = Literal["intent", "sentiment", "entities"]
TASKS: tuple[Task, ...] = ("intent", "sentiment", "entities")

Source = Literal["seed", "reviewed", "correction", "rating"]
"""Where a label comes from: `seed` and `reviewed` are gold, the other two are a user's word."""
GOLD_SOURCES: frozenset[Source] = frozenset({"seed", "reviewed"})

Split = Literal["train", "dev", "holdout"]
ExampleState = Literal["pending", "learned", "conflict", "quarantined"]
CycleMode = Literal["incremental", "full"]
CycleStatus = Literal["deployed", "rejected", "rolled_back", "skipped", "failed"]
Stage = Literal["curating", "training", "validating", "deploying", "finished", "interrupted"]

Score = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Features = Mapping[str, int | float | bool | str]


def utc_now() -> datetime:
    """The present moment, timezone-aware."""
    return datetime.now(timezone.utc)


class Record(BaseModel):
    """A frozen value without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: what `--json` and the HTTP service show."""
        return self.model_dump(mode="json")


class EntitySpan(Record):
    """A labelled stretch of a text."""

    start: int = Field(ge=0)
    end: int = Field(gt=0)
    label: str = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _ordered(self) -> EntitySpan:
        if self.end <= self.start:
            raise ValueError(f"entity {self.label!r} ends at {self.end}, before or where it starts")
        return self


class Entity(Record):
    """An entity found in a text, with the words it covers."""

    start: int
    end: int
    label: str
    text: str


def _span_from_triple(value: Any) -> Any:
    """Accept the corpus form `[start, end, label]` beside `{start, end, label}`."""
    if isinstance(value, (list, tuple)) and len(value) == 3:
        return {"start": value[0], "end": value[1], "label": value[2]}
    return value


Span = Annotated[EntitySpan, BeforeValidator(_span_from_triple)]
Label = Annotated[str, Field(min_length=1, max_length=200)]


POOR_RATING = 0.5
"""A rating below this says that something about the answer was wrong."""


class UserFeedback(Record):
    """What a user said of an answer. Every part may be absent: absent means unknown.

    `corrected_entities=()` says "there are none here". `consent=False` says "do not learn from me".
    """

    satisfaction_score: Score | None = None
    response_quality: Score | None = None
    corrected_intent: Label | None = None
    corrected_sentiment: Label | None = None
    corrected_entities: tuple[Span, ...] | None = None
    consent: bool | None = None
    comment: str | None = Field(default=None, max_length=10_000)

    @property
    def is_correction(self) -> bool:
        return (
            self.corrected_intent is not None
            or self.corrected_sentiment is not None
            or self.corrected_entities is not None
        )

    def finds_fault(
        self, *, intent: str | None, sentiment: str | None, entities: Iterable[Entity] | None
    ) -> bool:
        """Whether what was detected needs correction: the user says otherwise, or rates the answer below
        one half. `entities` are None where they are no longer known; any corrected ones then count.
        """
        ratings = (self.satisfaction_score, self.response_quality)
        return (
            any(rating is not None and rating < POOR_RATING for rating in ratings)
            or self.corrected_intent not in (None, intent)
            or self.corrected_sentiment not in (None, sentiment)
            or self._corrects(entities)
        )

    def _corrects(self, entities: Iterable[Entity] | None) -> bool:
        if self.corrected_entities is None or entities is None:
            return self.corrected_entities is not None
        corrected = {(span.start, span.end, span.label) for span in self.corrected_entities}
        return corrected != {(entity.start, entity.end, entity.label) for entity in entities}

    def merged_with(self, later: UserFeedback) -> UserFeedback:
        """This feedback with everything that `later` states put over it."""
        return self.model_copy(update=later.model_dump(exclude_none=True) | later._kept_spans())

    def _kept_spans(self) -> dict[str, Any]:
        spans = self.corrected_entities
        return {} if spans is None else {"corrected_entities": spans}


class Analysis(Record):
    """What the live model, or the fallback (`degraded`), says of a text."""

    intent: str | None
    intent_confidence: Score
    out_of_scope: bool = False
    sentiment: str | None
    sentiment_confidence: Score
    entities: tuple[Entity, ...] = ()
    linguistic_features: Features = Field(default_factory=dict)
    degraded: bool = False
    model_version: str | None = None


class ConversationMetadata(Record):
    """One turn as it was understood and remembered, without its words."""

    conversation_id: str
    turn_id: str
    tenant_id: str
    user_id: str
    intent_detected: str | None
    intent_confidence: Score
    sentiment_detected: str | None
    sentiment_confidence: Score
    persona_selected: str
    user_satisfaction: Score | None
    response_quality: Score | None
    entities_extracted: tuple[tuple[str, str], ...]
    linguistic_features: Features
    feedback_provided: bool
    correction_needed: bool
    degraded: bool
    model_version: str | None
    occurred_at: datetime


class Turn(Record):
    """One conversation turn as the store keeps it.

    `user_text` and `assistant_response` are None where the user did not consent: then nothing that
    could be learned from is kept. `seq` is given by the store, grows with every new turn of any
    tenant, and is None before the turn is stored. `entities` are those that were detected.
    """

    metadata: ConversationMetadata
    user_text: str | None
    assistant_response: str | None
    entities: tuple[Entity, ...] = ()
    feedback: UserFeedback | None = None
    seq: int | None = None

    @property
    def tenant_id(self) -> str:
        return self.metadata.tenant_id

    @property
    def turn_id(self) -> str:
        return self.metadata.turn_id


class LabelledText(Record):
    """A line of a corpus. A label that is None, or entities that are None, are unknown."""

    text: str
    intent: Label | None = None
    sentiment: Label | None = None
    entities: tuple[Span, ...] | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks for which this text carries a label."""
        known = (self.intent, self.sentiment, self.entities)
        return tuple(task for task, label in zip(TASKS, known, strict=True) if label is not None)


class Example(LabelledText):
    """A curated training or test example.

    `key` identifies the normalised text, `group` its near-duplicates (which share a split), `stratum`
    the label by which sets are balanced. `quality` is in 0..1. `users` counts the distinct people who
    agree. `draw` is a fixed random number in 0..1 by which the store samples. `reason` tells why an
    example is in `conflict` or `quarantined`.
    """

    example_id: str
    source: Source
    quality: Score
    key: str
    group: str
    stratum: str
    split: Split
    state: ExampleState = "pending"
    users: int = 1
    user_id: str | None = None
    turn_id: str | None = None
    draw: float = 0.0
    rejections: int = 0
    reason: str | None = None
    learned_in: str | None = None
    created_at: datetime = Field(default_factory=utc_now)
    seq: int | None = None

    @property
    def is_gold(self) -> bool:
        return self.source in GOLD_SOURCES


class LabelScore(Record):
    """Precision, recall and F1 of one label. `support` is the number of gold cases."""

    precision: Score
    recall: Score
    f1: Score
    support: int


class Confusion(Record):
    """How often `gold` was taken for `predicted`, with a few of the texts."""

    task: Task
    gold: str
    predicted: str
    count: int
    texts: tuple[str, ...] = ()


class ValidationResult(Record):
    """The scores of one model on the tenant's holdout.

    `intent_accuracy` and `sentiment_accuracy` are accuracies, `entity_accuracy` the F1 of exact spans
    with labels; `accuracy` is their mean weighted by the texts of each task; `precision`, `recall` and
    `f1_score` are macro averages over labels, weighted likewise. A task without holdout texts is None.
    `intervals` holds 95 % intervals by score name. `cross_validated` holds accuracies estimated by
    cross-validation beside a holdout that is too small to say much.
    """

    accuracy: Score | None
    precision: Score | None
    recall: Score | None
    f1_score: Score | None
    intent_accuracy: Score | None
    sentiment_accuracy: Score | None
    entity_accuracy: Score | None
    passed_threshold: bool
    counts: Mapping[Task, int] = Field(default_factory=dict)
    per_label: Mapping[Task, Mapping[str, LabelScore]] = Field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = Field(default_factory=dict)
    errors: tuple[Confusion, ...] = ()
    cross_validated: Mapping[Task, Score] | None = None

    def task_score(self, task: Task) -> float | None:
        """The one score by which a task is judged."""
        scores = {
            "intent": self.intent_accuracy,
            "sentiment": self.sentiment_accuracy,
            "entities": self.entity_accuracy,
        }
        return scores[task]


class GateCheck(Record):
    """One question that a candidate had to answer, and its answer."""

    name: str
    passed: bool
    detail: str


class Verdict(Record):
    """Whether a candidate may replace the champion, and why. `harmful`: it was clearly worse."""

    accepted: bool
    harmful: bool
    improved: tuple[Task, ...]
    checks: tuple[GateCheck, ...]

    @property
    def summary(self) -> str:
        failed = [check.detail for check in self.checks if not check.passed]
        return "; ".join(failed) if failed else "; ".join(check.detail for check in self.checks)


class ModelVersion(Record):
    """A version on disk: immutable content below `models/<tenant>/<version>`."""

    tenant_id: str
    version: str
    path: Path
    digest: str
    parent: str | None
    cycle_id: str | None
    created_at: datetime
    scores: Mapping[str, float] = Field(default_factory=dict)
    backup_path: Path | None = None


class Lease(Record):
    """The right to run a cycle. `token` grows with each holder: writes are fenced by it."""

    tenant_id: str
    owner: str
    token: int
    expires_at: datetime


class LearningCycleResult(Record):
    """What one learning cycle did. A bad cycle is a result, not an exception."""

    cycle_id: str
    tenant_id: str
    mode: CycleMode
    reason: str | None
    status: CycleStatus
    model_improved: bool = False
    training_examples: int = 0
    replay_examples: int = 0
    baseline: ValidationResult | None = None
    validation: ValidationResult | None = None
    verdict: Verdict | None = None
    model_version: str | None = None
    previous_version: str | None = None
    backup_path: Path | None = None
    started_at: datetime
    duration_s: float = 0.0
    stage_seconds: Mapping[str, float] = Field(default_factory=dict)
    curation: CurationCounts | None = None
    skipped_examples: int = 0
    error_message: str | None = None


class CurationCounts(Record):
    """What became of the turns that awaited curation."""

    turns: int = 0
    accepted: int = 0
    merged: int = 0
    below_quality: int = 0
    conflicts: int = 0
    quarantined: int = 0
    unlabelled: int = 0


class CycleRow(Record):
    """A line of the journal. `stage` is where the cycle is, or was when it ended."""

    cycle_id: str
    tenant_id: str
    mode: CycleMode
    reason: str | None
    stage: Stage
    token: int
    started_at: datetime
    finished_at: datetime | None = None
    result: LearningCycleResult | None = None


class TenantCounts(Record):
    """Counts kept up to date by the store, so that reading them costs the same at any size."""

    turns: int = 0
    with_feedback: int = 0
    corrections: int = 0
    awaiting_curation: int = 0
    examples: Mapping[ExampleState, int] = Field(default_factory=dict)
    pending_train: int = 0
    holdout: int = 0
    cycles: int = 0
    degraded: int = 0


class TenantStatus(Record):
    """What the engineer on call wants to see first."""

    tenant_id: str
    champion: ModelVersion | None
    counts: TenantCounts
    labels: Mapping[Task, Mapping[str, int]]
    running_cycle: CycleRow | None
    last_cycle: LearningCycleResult | None
    ready_to_learn: bool
    advice: str


class LearningPlan(Record):
    """What a cycle would do now, without doing it."""

    tenant_id: str
    mode: CycleMode
    would_run: bool
    why: str
    curation: CurationCounts
    training_examples: int
    replay_examples: int
    holdout_examples: int


class LearningMetrics(Record):
    """Counts over the cycles of one tenant, or of all (then without content)."""

    tenant_id: str | None
    total_cycles: int
    successful_cycles: int
    failed_cycles: int
    rejected_cycles: int
    skipped_cycles: int
    model_improvements: int
    average_training_time: float
    last_cycle: LearningCycleResult | None
    recent_cycles: tuple[LearningCycleResult, ...]
    turns: int = 0
    tenants: int = 1


class SkippedLine(Record):
    """A line of an imported file that could not be used, and why. Lines count from 1."""

    line: int
    reason: str


class IngestReport(Record):
    """What an import kept and what it left out. `skipped` lists the first 1,000."""

    path: Path
    turns: int = 0
    examples: int = 0
    duplicates: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()


LearningCycleResult.model_rebuild()
CycleRow.model_rebuild()
