"""Protocols that a host may implement or a later package may replace.

Each Protocol has a contract suite in `tests/contracts/`; every implementation passes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

from typing_extensions import Self

from karen_learner.events import Event
from karen_learner.records import (
    TASKS,
    Analysis,
    AwaitingTurn,
    CurationWrite,
    CycleRow,
    Example,
    ExampleState,
    LearningCycleResult,
    Lease,
    ModelVersion,
    Promotion,
    Split,
    Stage,
    Task,
    TenantCounts,
    Turn,
    UserFeedback,
    Verdict,
)
from karen_learner.records.training import (
    CrossValidateJob,
    CrossValidateReport,
    PassReport,
    PipelineSpec,
    PredictJob,
    PredictReport,
    TrainJob,
    TrainReport,
)

TenantId = str
Clock = Callable[[], datetime]
"""The current time, timezone-aware UTC."""
OnProgress = Callable[[PassReport], None]
ScoredT = TypeVar("ScoredT", contravariant=True)


@runtime_checkable
class Analyzer(Protocol):
    """Detects intent, sentiment and entities of texts. Safe for concurrent calls."""

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        """The analysis of a text by the tenant's model."""

    async def analyze_many(self, texts: Sequence[str], *, tenant_id: str | None = None) -> list[Analysis]:
        """The analyses of many texts, in order."""

    async def on_deployed(self, version: str, path: Path) -> None:
        """Called after a deployment: the new champion is in `path`. An analyzer with a copy loads it here."""


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


class Gate(Protocol[ScoredT]):
    """Decides whether a candidate replaces the champion."""

    async def judge(
        self, candidate: ScoredT, champion: ScoredT | None, *, taught: Collection[Task] = TASKS
    ) -> Verdict:
        """Verdict on a scored candidate. `taught` are the tasks of the new examples."""


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
        """Train a candidate. `on_progress` receives each pass. Raises TrainingError or ModelError."""

    async def predict(self, job: PredictJob) -> PredictReport:
        """Predictions of each model for the holdout. Raises TrainingError or ModelError."""

    async def cross_validate(self, job: CrossValidateJob) -> CrossValidateReport:
        """Cross-validated scores of a small data set. Raises TrainingError or ModelError."""

    def preload(self, tenant_id: TenantId, pipeline: PipelineSpec) -> None:
        """Load a pipeline in the background for the next training. Failures are logged."""


class MemoryStore(Protocol):
    """Turns, examples, the journal of cycles, leases, versions and the champion of each tenant."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def start(self) -> None:
        """Open, migrate and check the database. Idempotent.

        Raises StoreReadOnly, StoreLocked, StoreNotOurs, SchemaTooNew, or StoreError.
        """

    async def close(self) -> None:
        """Finish what is queued and close. Idempotent; used afterwards, raises LearnerClosed."""

    # Turns -----------------------------------------------------------------------------------

    async def add_turn(self, turn: Turn) -> Turn:
        """Store a turn and return it as stored, with its `seq`.

        The same `turn_id` again is the same turn: the stored one is returned, with the feedback of
        the repeated one merged in (only the feedback: its text and analysis are ignored). Feedback
        makes the turn await curation, unless consent is refused. Waits while the queue is full.
        """

    async def add_feedback(self, tenant_id: TenantId, turn_id: str, feedback: UserFeedback) -> Turn:
        """Merge feedback into a stored turn and return it. `metadata` (satisfaction, quality,
        feedback_provided, correction_needed) follows the merged feedback.

        `consent=False` removes the words of the turn and of every example made from it, and sets
        those examples to `quarantined` with the reason `consent`. Raises UnknownTurn.
        """

    async def get_turn(self, tenant_id: TenantId, turn_id: str) -> Turn | None: ...

    def turns(self, tenant_id: TenantId, *, after_seq: int = 0) -> AsyncIterator[Turn]:
        """All turns in order of `seq`, read in pages."""

    def turns_awaiting_curation(
        self, tenant_id: TenantId, *, after_seq: int = 0
    ) -> AsyncIterator[Sequence[AwaitingTurn]]:
        """Pages of turns with feedback and words that changed since their last curation, in order of `seq`.

        The cost depends on the number of these turns, not on history. Pass `AwaitingTurn.mark` in
        `CurationWrite.curated`: feedback that changes a turn in the meantime keeps it awaiting."""

    async def unlabelled_turns(self, tenant_id: TenantId, *, limit: int) -> Sequence[Turn]:
        """Of the newest `limit` turns, those that have words and no feedback at all, newest first. An
        index read: its cost depends on `limit` alone."""

    # Examples --------------------------------------------------------------------------------

    async def save_curation(
        self, tenant_id: TenantId, outcome: CurationWrite, *, token: int | None = None
    ) -> bool:
        """Write the decisions of curation. False, with nothing written, if somebody has changed what
        they rest on: decide anew. With a `token`, raises FencedOut if the lease is lost."""

    async def examples_by_key(self, tenant_id: TenantId, keys: Sequence[str]) -> Mapping[str, Example]:
        """The example of each normalised text that is known, by `key`."""

    async def splits_by_group(self, tenant_id: TenantId, groups: Sequence[str]) -> Mapping[str, Split]:
        """The split in which each near-duplicate group already is."""

    def examples(
        self,
        tenant_id: TenantId,
        *,
        state: ExampleState,
        split: Split | None = None,
        newest_first: bool = False,
    ) -> AsyncIterator[Example]:
        """Examples in order of `seq` (the order of their first saving), read in pages by an index."""

    async def sample_learned(
        self, tenant_id: TenantId, stratum: str, *, limit: int, from_draw: float
    ) -> Sequence[Example]:
        """Up to `limit` learned training examples of a stratum with `draw >= from_draw`, by `draw`,
        going round to the smallest draws when the end is reached. An index read: its cost depends on
        `limit` alone."""

    async def strata(self, tenant_id: TenantId, *, state: ExampleState, split: Split) -> Mapping[str, int]:
        """How many examples each stratum has, from counters: no scan of the examples."""

    async def labels(self, tenant_id: TenantId) -> Mapping[Task, Mapping[str, int]]:
        """The tenant's label schema: what gold examples taught, with the number of examples of each
        (all states but `quarantined`), from counters."""

    async def declare_labels(self, tenant_id: TenantId, labels: Mapping[Task, Sequence[str]]) -> None:
        """Add labels to the schema. Feedback with any other label is quarantined by curation. Raises
        LabelCollision, with nothing written, if one would stand for an intent and for a sentiment."""

    async def reject_examples(
        self,
        tenant_id: TenantId,
        trained: Sequence[Example],
        *,
        harmful: bool,
        quarantine_at: int,
        token: int | None = None,
    ) -> int:
        """Note that a cycle with these pending examples was rejected; they stay pending.

        When `harmful`, the `rejections` of each example grow by one, except for gold and for examples whose
        text or labels changed since training. Those that reach `quarantine_at` become `quarantined` with the
        reason `harmful`. Returns the number of newly quarantined examples."""

    # The journal -----------------------------------------------------------------------------

    async def start_cycle(self, row: CycleRow) -> None: ...

    async def advance_cycle(self, tenant_id: TenantId, cycle_id: str, stage: Stage, *, token: int) -> None:
        """Journal that a stage begins. Raises FencedOut if the lease is lost."""

    async def finish_cycle(
        self, tenant_id: TenantId, cycle_id: str, result: LearningCycleResult, *, stage: Stage = "finished"
    ) -> None:
        """Journal the end of a cycle with its result (`stage` is `interrupted` after a crash)."""

    async def unfinished_cycles(self, tenant_id: TenantId) -> Sequence[CycleRow]: ...

    async def cycles(self, tenant_id: TenantId | None, *, limit: int = 20) -> Sequence[CycleRow]:
        """The newest cycles, newest first; of all tenants when None (the operator's view)."""

    async def cycle_tallies(self, tenant_id: TenantId | None) -> Mapping[str, float]:
        """Sums kept up to date: `total`, one per status, `improved`, `training_seconds` (the summed
        `stage_seconds["training"]`) and `trained` (the number of cycles that trained)."""

    # Leases ----------------------------------------------------------------------------------

    async def acquire_lease(self, tenant_id: TenantId, owner: str, *, ttl: timedelta) -> Lease | None:
        """Take the lease if it is free, expired, or held by a process that is seen to be dead; None
        otherwise. `owner` is what `memory.owner_of` names a process. Each new holder gets a larger token."""

    async def renew_lease(self, lease: Lease, *, ttl: timedelta) -> Lease:
        """Prolong it. Raises FencedOut if somebody else holds it now."""

    async def release_lease(self, lease: Lease) -> None:
        """Give it back. Idempotent."""

    # Versions --------------------------------------------------------------------------------

    async def next_version_number(self, tenant_id: TenantId) -> int:
        """1, 2, 3, ...: each number is given once, even if the version is never deployed."""

    async def promote(self, tenant_id: TenantId, promotion: Promotion, *, token: int | None) -> bool:
        """Compare-and-set the champion with all that goes with it. False: it was not `expected`.
        Raises FencedOut if the lease is lost."""

    async def champion(self, tenant_id: TenantId) -> ModelVersion | None: ...

    async def versions(self, tenant_id: TenantId, *, limit: int = 100) -> Sequence[ModelVersion]:
        """Newest first."""

    async def get_version(self, tenant_id: TenantId, version: str) -> ModelVersion | None: ...

    def lineage(self, tenant_id: TenantId, version: str) -> AsyncIterator[str]:
        """The ids of the examples on which the version was trained in its own cycle (those of its
        ancestors are in theirs)."""

    def pseudo_labelled_turns(self, tenant_id: TenantId, version: str) -> AsyncIterator[str]:
        """The ids of the turns without feedback from which the version learned in its own cycle, in
        order of `seq`. A turn stays among them whatever is said about it later."""

    # Overview --------------------------------------------------------------------------------

    async def tenants(self) -> Sequence[TenantId]: ...

    async def counts(self, tenant_id: TenantId) -> TenantCounts:
        """From counters: as fast at a million turns as at ten."""
