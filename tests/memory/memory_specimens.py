"""Turns, examples and other values for the tests of the store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from karen_learner.records import (
    Contribution,
    ConversationMetadata,
    CycleRow,
    Entity,
    Example,
    LearningCycleResult,
    ModelVersion,
    Turn,
    UserFeedback,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone.utc)


class MovableClock:
    """A clock that only `move` changes."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def make_turn(
    turn_id: str = "t1",
    *,
    tenant: str = "acme",
    text: str | None = "pay my bill in Rome",
    feedback: UserFeedback | None = None,
    **metadata: Any,
) -> Turn:
    known = {
        "conversation_id": "c1",
        "turn_id": turn_id,
        "tenant_id": tenant,
        "user_id": "u1",
        "intent_detected": "billing",
        "intent_confidence": 0.8,
        "sentiment_detected": "neutral",
        "sentiment_confidence": 0.7,
        "persona_selected": "assistant",
        "user_satisfaction": feedback and feedback.satisfaction_score,
        "response_quality": feedback and feedback.response_quality,
        "entities_extracted": (("Rome", "CITY"),),
        "linguistic_features": {"tokens": 5, "ratio": 0.5, "question": False, "language": "en"},
        "feedback_provided": feedback is not None,
        "correction_needed": False,
        "degraded": False,
        "model_version": None,
        "occurred_at": NOON,
    }
    return Turn(
        metadata=ConversationMetadata(**(known | metadata)),
        user_text=text,
        assistant_response="With pleasure." if text is not None else None,
        entities=(Entity(start=15, end=19, label="CITY", text="Rome"),),
        feedback=feedback,
    )


def make_example(example_id: str = "e1", **values: Any) -> Example:
    known: dict[str, Any] = {
        "text": f"text of {example_id}",
        "intent": "billing",
        "example_id": example_id,
        "source": "correction",
        "quality": 0.9,
        "key": f"key-{example_id}",
        "group": f"group-{example_id}",
        "stratum": "billing",
        "created_at": NOON,
    }
    return Example(**(known | values))


def make_contribution(turn_id: str | None = "t1", **values: Any) -> Contribution:
    known: dict[str, Any] = {
        "text": f"text of {turn_id}",
        "intent": "billing",
        "key": "k",
        "source": "correction",
        "quality": 0.9,
        "user_id": f"user of {turn_id}",
        "turn_id": turn_id,
        "occurred_at": NOON,
    }
    return Contribution(**(known | values))


def make_version(version: str = "v1", *, tenant: str = "acme", **values: Any) -> ModelVersion:
    known: dict[str, Any] = {
        "tenant_id": tenant,
        "version": version,
        "path": Path("models/acme") / version,
        "digest": "d" * 64,
        "parent": None,
        "cycle_id": "cycle-1",
        "created_at": NOON,
        "scores": {"accuracy": 0.9},
    }
    return ModelVersion(**(known | values))


def make_cycle(cycle_id: str = "cycle-1", *, tenant: str = "acme", token: int = 1) -> CycleRow:
    return CycleRow(
        cycle_id=cycle_id,
        tenant_id=tenant,
        mode="incremental",
        reason="asked",
        stage="curating",
        token=token,
        started_at=NOON,
    )


def make_result(cycle_id: str = "cycle-1", *, tenant: str = "acme", **values: Any) -> LearningCycleResult:
    known: dict[str, Any] = {
        "cycle_id": cycle_id,
        "tenant_id": tenant,
        "mode": "incremental",
        "reason": "asked",
        "status": "deployed",
        "started_at": NOON,
    }
    return LearningCycleResult(**(known | values))
