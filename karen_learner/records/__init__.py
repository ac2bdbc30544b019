"""The frozen values that travel between the stages. No I/O, no spaCy.

Times are timezone-aware UTC. Character offsets are Python (code point) offsets, end exclusive.
Scores and probabilities are in 0..1.
"""

from karen_learner.records.base import (
    CATEGORY_TASKS,
    GOLD_SOURCES,
    TASKS,
    CycleMode,
    CycleStatus,
    ExampleState,
    Features,
    Label,
    Record,
    Score,
    Source,
    Split,
    Stage,
    Task,
    check_id,
    clean_text,
    new_id,
    replace_unfit,
    utc_now,
    within_limit,
)
from karen_learner.records.conversations import (
    POOR_RATING,
    Analysis,
    ConversationMetadata,
    Turn,
    UserFeedback,
)
from karen_learner.records.cycles import (
    CurationCounts,
    CycleRow,
    LearningCycleResult,
    LearningPlan,
    Lease,
    ModelVersion,
)
from karen_learner.records.imports import GoldReport, IngestReport, SkippedLine
from karen_learner.records.judgements import Confusion, GateCheck, LabelScore, ValidationResult, Verdict
from karen_learner.records.overviews import LearningMetrics, TenantCounts, TenantStatus
from karen_learner.records.texts import NO_CONSENT, Entity, EntitySpan, Example, LabelledText, Span
from karen_learner.records.writes import AwaitingTurn, CurationWrite, Promotion, ReadSet

__all__ = [
    "CATEGORY_TASKS",
    "GOLD_SOURCES",
    "NO_CONSENT",
    "POOR_RATING",
    "TASKS",
    "Analysis",
    "AwaitingTurn",
    "Confusion",
    "ConversationMetadata",
    "CurationCounts",
    "CurationWrite",
    "CycleMode",
    "CycleRow",
    "CycleStatus",
    "Entity",
    "EntitySpan",
    "Example",
    "ExampleState",
    "Features",
    "GateCheck",
    "GoldReport",
    "IngestReport",
    "Label",
    "LabelScore",
    "LabelledText",
    "LearningCycleResult",
    "LearningMetrics",
    "LearningPlan",
    "Lease",
    "ModelVersion",
    "Promotion",
    "ReadSet",
    "Record",
    "Score",
    "SkippedLine",
    "Source",
    "Span",
    "Split",
    "Stage",
    "Task",
    "TenantCounts",
    "TenantStatus",
    "Turn",
    "UserFeedback",
    "ValidationResult",
    "Verdict",
    "check_id",
    "clean_text",
    "new_id",
    "replace_unfit",
    "utc_now",
    "within_limit",
]
