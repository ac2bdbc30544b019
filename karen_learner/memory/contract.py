"""What a memory store promises. Every implementation passes `tests/memory/test_store_contract.py`.

Every method that reads or writes names its tenant, and sees that tenant's rows only. A method that
returns has committed: what it acknowledged survives `kill -9`. Nothing is loaded whole: what may be
large is an async iterator that reads in pages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

from karen_learner.records import (
    CycleRow,
    Example,
    ExampleState,
    LearningCycleResult,
    Lease,
    ModelVersion,
    Split,
    Stage,
    Task,
    TenantCounts,
    Turn,
    UserFeedback,
)

TenantId = str


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What decisions rest on, as it was read: examples by `key`, and the splits of groups. What was
    looked for and not there is None."""

    examples: Mapping[str, Example | None]
    splits: Mapping[str, Split | None]


@dataclass(frozen=True, kw_only=True)
class CurationOutcome:
    """What one page of curation decided; written in a single transaction.

    `curated_turns` are the `seq` of the turns that need no more looking at. `upserts` replace the
    example with the same `example_id`, or are new. Without a `basis` they are written in any case.
    """

    upserts: Sequence[Example] = ()
    curated_turns: Sequence[int] = ()
    basis: Basis | None = None


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A change of champion and all that must become true with it, in a single transaction.

    `expected` is the champion that the caller believes in; if it is another one by now, nothing is
    written and False is returned. `version` is written as a new row unless it exists already.
    `learned` are examples as the version was trained on them: those that are pending and still say the
    same become `learned`. They and the ids in `replayed` enter the lineage. When the version is no
    child of the champion, versions are undone by it: what was learned in them is `pending` again.
    `heard` are the `seq` of the turns that the version learned from without feedback; those of them
    that are the tenant's are kept, for `heard_turns` to tell.
    """

    version: ModelVersion
    expected: str | None
    learned: Sequence[Example] = ()
    replayed: Sequence[str] = ()
    heard: Sequence[int] = ()


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
        self, tenant_id: TenantId, *, after_seq: int = 0, peek: bool = False
    ) -> AsyncIterator[Sequence[Turn]]:
        """Pages of turns with feedback and words that curation has not looked at since the last
        change, in order of `seq`. The cost depends on how many those are, not on history.

        `save_curation` marks a turn only in the revision that was handed out here; with `peek` it is
        looked at without being handed out (a dry run beside a cycle must not change what that marks)."""

    async def unlabelled_turns(self, tenant_id: TenantId, *, limit: int) -> Sequence[Turn]:
        """Of the newest `limit` turns, those that have words and no feedback at all, newest first. An
        index read: its cost depends on `limit` alone."""

    # Examples --------------------------------------------------------------------------------

    async def save_curation(
        self, tenant_id: TenantId, outcome: CurationOutcome, *, token: int | None = None
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
        token: int | None = None,
    ) -> int:
        """Note that a cycle with these pending examples was rejected. They stay pending; when
        `harmful`, the `rejections` of those that are not gold and still say what was trained on grow,
        and those that reach two are `quarantined` with the reason `harmful`. Returns how many were
        quarantined."""

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

    def heard_turns(self, tenant_id: TenantId, version: str) -> AsyncIterator[str]:
        """The ids of the turns without feedback from which the version learned in its own cycle, in
        order of `seq`. A turn stays among them whatever is said about it later."""

    # Overview --------------------------------------------------------------------------------

    async def tenants(self) -> Sequence[TenantId]: ...

    async def counts(self, tenant_id: TenantId) -> TenantCounts:
        """From counters: as fast at a million turns as at ten."""
