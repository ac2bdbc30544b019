"""Protocols of the parts of a learner that a host may implement, except the stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from karen_learner.events import Event
from karen_learner.records import Analysis, ConversationMetadata, Task, Turn, UserFeedback, Verdict
from karen_learner.records.erasure import Erasure
from karen_learner.records.training import (
    PassReport,
    PipelineSpec,
    PredictJob,
    PredictReport,
    TrainJob,
    TrainReport,
)

Clock = Callable[[], datetime]
"""The current time, timezone-aware UTC."""
OnProgress = Callable[[PassReport], None]
EvidenceT = TypeVar("EvidenceT", contravariant=True)


@runtime_checkable
class Analyzer(Protocol):
    """Detects intent, sentiment and entities of texts. Safe for concurrent calls."""

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        """The analysis of a text by the tenant's model."""

    async def analyze_many(self, texts: Sequence[str], *, tenant_id: str | None = None) -> list[Analysis]:
        """The analyses of many texts, in order."""

    async def on_deployed(self, version: str, path: Path) -> None:
        """Called after a deployment: the new champion is in `path`. An analyzer with a copy loads it here."""


class CollectingLearner(Protocol):
    """The part of a learner that stores turns."""

    async def collect_conversation_metadata(
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
        """As `AutonomousLearner.collect_conversation_metadata`."""

    async def add_feedback(
        self, tenant_id: str, turn_id: str, feedback: UserFeedback | Mapping[str, Any]
    ) -> ConversationMetadata:
        """As `AutonomousLearner.add_feedback`."""

    async def erase_user(self, tenant_id: str, user_id: str) -> Erasure:
        """As `AutonomousLearner.erase_user`."""


@dataclass(frozen=True, kw_only=True)
class BasePipelineInfo:
    """A pipeline that new tenants start from. `tasks` maps tasks to pipes."""

    version: str | None
    tasks: Mapping[Task, str]
    language: str


@runtime_checkable
class BasePipelineSource(Protocol):
    """An analyzer with a pipeline that new tenants start from."""

    async def base_pipeline(self) -> BasePipelineInfo | None:
        """Description of the pipeline; None without one. Raises ModelError."""

    async def write_base_pipeline(self, folder: Path) -> None:
        """Write the pipeline to a folder, as `nlp.to_disk` does. Raises ModelError."""


class Sanitizer(Protocol):
    """Processes the user's text and the assistant's response before they are analysed and stored."""

    def sanitize(self, text: str) -> str:
        """The text without content that must not be stored.

        The length stays the same, so that the offsets of entities stay valid. The result has no lone
        surrogates and no control characters other than tab, newline and carriage return. Idempotent.
        """


@runtime_checkable
class HostMemory(Protocol):
    """A host's own memory: it receives every stored turn. The store stays the system of record."""

    async def remember(self, turn: Turn) -> None: ...


class EventPublisher(Protocol):
    """Receives events after the commit of their change."""

    def publish(self, event: Event) -> None:
        """Accept an event. Never waits and never raises for a subscriber."""


class Gate(Protocol[EvidenceT]):
    """Decides whether a candidate replaces the champion."""

    async def judge(self, evidence: EvidenceT) -> Verdict:
        """Verdict on a candidate, from `karen_learner.validation.Evidence`."""


class TrainingBackend(Protocol):
    """Trains and predicts outside of the event loop. Jobs of one tenant never overlap.

    All methods raise LearnerClosed after `close()`.
    """

    @property
    def pid(self) -> int | None:
        """Process id of a local worker process; None without one."""

    async def start(self) -> None:
        """Get ready for the first job. Idempotent."""

    async def close(self) -> None:
        """End running jobs with WorkerCrashed and release all resources. Idempotent."""

    async def train(self, job: TrainJob, on_progress: OnProgress | None = None) -> TrainReport:
        """Train a candidate. `on_progress` receives passes. Raises TrainingError or ModelError."""

    async def predict(self, job: PredictJob) -> PredictReport:
        """The prediction for each line of a file. Raises TrainingError or ModelError."""

    def preload(self, tenant_id: str, pipeline: PipelineSpec) -> None:
        """Load a pipeline in the background for the next training. Failures are logged."""
