"""`MemoryStore`: the Protocol of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self

from karen_learner.contracts.stores import InboxStore, IncidentStore, OutboxStore, OutcomeStore, ReviewStore
from karen_learner.records import (
    CYCLE_LEASE,
    AwaitingTurn,
    Contribution,
    CurationWrite,
    CycleRow,
    Example,
    ExampleState,
    Holdback,
    IdKind,
    LearningCycleResult,
    Lease,
    ModelVersion,
    Outcome,
    Promotion,
    Stage,
    Task,
    TenantCounts,
    Turn,
    UserFeedback,
    VersionCounts,
)
from karen_learner.records.erasure import PersonalRows
from karen_learner.records.labels import LabelChange, LabelReport, Successors
from karen_learner.records.triggers import Schedule


class MemoryStore(InboxStore, OutcomeStore, IncidentStore, OutboxStore, ReviewStore, Protocol):
    """Turns, examples, the journal of cycles, leases, versions and aliases of each tenant.

    A write is one transaction. Reads see committed rows only.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *error: object) -> None: ...

    async def start(self) -> None:
        """Open, migrate and check the database. Idempotent; tries again to write if it was only read.

        Raises StoreReadOnly, StoreLocked, StoreNotOurs, SchemaTooNew, or StoreError.
        """

    async def snapshot(self, target: Path) -> None:
        """Copy all committed rows to a new file, while the store is in use.

        Raises InvalidInput, with the way to save them, if the database is no file.
        """

    async def page_use(self) -> tuple[int, int]:
        """Bytes of the database, and those of its free pages. (0, 0) if the database frees its own."""

    async def vacuum(self) -> int:
        """Rewrite the database without its free pages; the bytes that this frees. Raises StoreFull."""

    async def empty_log(self) -> None:
        """Remove erased texts from the log of the database as far as no other process needs it."""

    @property
    def read_only(self) -> str | None:
        """The reason for which nothing is written (writes raise StoreReadOnly); None if the store writes."""

    async def close(self) -> None:
        """Write queued items and close. Idempotent; later calls raise LearnerClosed."""

    async def damages(self) -> Sequence[str]:
        """Damages that a check of the whole database finds; none on PostgreSQL, which has its own checks."""

    async def add_turn(self, turn: Turn) -> Turn:
        """Store a turn and return it as stored, with its `seq`.

        A repeated `turn_id` is the same turn: its feedback is merged into the stored turn, its text and
        analysis are ignored. Feedback makes the turn await curation, unless consent is refused. Waits while
        the queue is full.
        """

    async def add_feedback(self, tenant_id: str, turn_id: str, feedback: UserFeedback) -> Turn:
        """Merge feedback into a stored turn and return it (see `Turn.with_feedback`). Raises UnknownTurn.

        `consent=False` also deletes the contributions from the turn, and removes the content of every example
        made from the turn. The state of those examples becomes `quarantined`, with the reason `consent`.
        """

    async def get_turn(self, tenant_id: str, turn_id: str) -> Turn | None: ...

    async def personal_rows(self, tenant_id: str, user_id: str) -> PersonalRows:
        """The number of rows of a user."""

    async def erase_page(self, tenant_id: str, user_id: str, *, alias: str, limit: int) -> PersonalRows:
        """Erase up to `limit` labels and turns of a user in one transaction. The erased rows.

        Turns keep ids, detected labels and ratings under the user id `alias`. Examples lose the text that
        no other person gave. If fewer than `limit` labels and turns were left, log entries and events in the
        inbox are erased, too.
        """

    def turns(self, tenant_id: str, *, after_seq: int = 0) -> AsyncIterator[Turn]:
        """All turns in order of `seq`, read in pages. Within a tenant, `seq` has the order of commits."""

    def turns_awaiting_curation(
        self, tenant_id: str, *, after_seq: int = 0
    ) -> AsyncIterator[Sequence[AwaitingTurn]]:
        """Pages of turns with feedback and text that changed since their last curation, in order of `seq`.

        The cost depends on the number of these turns, not on history. Pass `AwaitingTurn.mark` in
        `CurationWrite.curated`: feedback that changes a turn in the meantime keeps it awaiting.
        """

    async def save_curation(
        self, tenant_id: str, curated: CurationWrite, *, token: int | None = None
    ) -> bool:
        """Write decisions of curation. False, with nothing written, if the values of its read set changed,
        or if a label was renamed or retired.

        With a `token`, raises FencedOut if the lease is lost.
        """

    async def examples_by_key(self, tenant_id: str, keys: Sequence[str]) -> Mapping[str, Example]:
        """The stored examples of normalised texts, by `key`."""

    async def contributions(
        self, tenant_id: str, keys: Sequence[str]
    ) -> Mapping[str, Sequence[Contribution]]:
        """The contributions to normalised texts, by `key`, in order of `seq`."""

    async def contributors(self, tenant_id: str, keys: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """The distinct people who contributed to normalised texts, by `key`, earliest first.

        A person is a user id, or `turn:<turn_id>` for an unknown user. Gold without a turn has no person.
        Texts without a person are left out.
        """

    def unusable_contributions(self, tenant_id: str) -> AsyncIterator[Sequence[Contribution]]:
        """Pages of the contributions with a `reason`, in order of `seq`. The cost depends on their number."""

    async def examples_by_id(self, tenant_id: str, example_ids: Sequence[str]) -> Mapping[str, Example]:
        """The stored examples, by id. Unknown ones are left out."""

    async def example_texts(self, tenant_id: str, example_ids: Sequence[str]) -> Mapping[str, str]:
        """The texts of examples, by id. Unknown examples and removed texts are left out."""

    async def recent_texts(self, tenant_id: str, *, limit: int) -> Sequence[str]:
        """The distinct texts of the newest `limit` turns, newest first, without removed ones."""

    async def newest_turns(self, tenant_id: str, *, limit: int) -> Sequence[Turn]:
        """The newest turns, oldest first."""

    async def gold_groups(self, tenant_id: str, groups: Sequence[str]) -> Collection[str]:
        """The groups of near-duplicates among these that have a gold example."""

    async def masks(self, tenant_id: str, generation: str, names: Sequence[str]) -> Mapping[str, int]:
        """The masks of groups and people, by name: bit k is set if shadow k has learned from them."""

    async def has_masks(self, tenant_id: str, generation: str) -> bool:
        """Whether a generation of shadows has masks."""

    async def store_masks(
        self, tenant_id: str, generation: str, new: Mapping[str, int], *, token: int
    ) -> None:
        """Store the masks of a generation of shadows. Raises FencedOut if the lease is lost."""

    async def prune_masks(self, tenant_id: str, keep: Collection[str]) -> None:
        """Remove the masks of all generations except those in `keep`."""

    def examples(
        self,
        tenant_id: str,
        *,
        state: ExampleState,
        gold: bool | None = None,
        newest_first: bool = False,
    ) -> AsyncIterator[Example]:
        """Examples in order of `seq` (the order of their first saving), read in pages by an index.

        Gold, feedback, or both (None).
        """

    async def sample_learned(
        self,
        tenant_id: str,
        stratum: str,
        *,
        limit: int,
        from_draw: float = 0.0,
        gold_only: bool = False,
    ) -> Sequence[Example]:
        """Up to `limit` learned examples of a stratum with `draw >= from_draw`, in order of `draw`.

        Continues with the smallest draws after the largest. The cost depends on `limit` alone.
        """

    async def strata(
        self, tenant_id: str, *, state: ExampleState, gold: bool | None = None
    ) -> Mapping[str, int]:
        """The number of examples of each stratum, from counters: gold, feedback, or both (None)."""

    async def labels(self, tenant_id: str) -> Mapping[Task, Mapping[str, int]]:
        """The label schema: declared labels and those of gold examples.

        With the number of examples of each label (all states but `quarantined`), from counters.
        """

    async def declare_labels(self, tenant_id: str, labels: Mapping[Task, Sequence[str]]) -> None:
        """Add labels to the schema. Curation quarantines feedback with any other label.

        Raises LabelCollision, with nothing written, if a label would be both an intent and a sentiment.
        """

    async def gold_labels(self, tenant_id: str, task: Task) -> Mapping[str, int]:
        """The number of gold examples of each label of a task, from counters."""

    async def label_successors(self, tenant_id: str) -> Successors:
        """The present label of each former label, by task; None for a retired one."""

    async def change_label(
        self, tenant_id: str, change: LabelChange, *, dry_run: bool = False
    ) -> LabelReport:
        """Give the successor to all examples and contributions with a label, and resolve their texts again.

        The schema then has the successor in place of the label. Without a successor the label is removed;
        examples without another label are quarantined. Learned examples stay `learned`. Raises
        LabelCollision, with nothing written, if the successor is a label of the other category task.
        """

    async def reject_examples(
        self,
        tenant_id: str,
        trained: Sequence[Example],
        *,
        harmful: bool,
        quarantine_at: int,
        token: int | None = None,
    ) -> int:
        """Record that a cycle with these pending examples was rejected; they stay pending.

        When `harmful`, the `rejections` of each example increase by one, except for gold and for examples
        changed since training. Those that reach `quarantine_at` become `quarantined` with the
        reason `harmful`. Returns the number of newly quarantined examples.
        """

    async def end_waiting(self, tenant_id: str, *, release: bool) -> int:
        """Make the examples that wait because of a rollback `pending`, or discard them.

        Discarded examples stay quarantined, with the reason `discarded`. Returns the number of examples.
        """

    async def decide_examples(self, tenant_id: str, example_ids: Sequence[str], *, release: bool) -> int:
        """Make excluded examples (harmful, waiting or discarded) `pending`, or discard them.

        Only discards examples in conflict. Others stay as they are. Returns the number of changed examples.
        """

    async def matching_ids(self, tenant_id: str, kind: IdKind, part: str) -> Sequence[str]:
        """Up to five ids that equal the part, else those that begin with it, at all or after a hyphen."""

    async def start_cycle(self, row: CycleRow) -> None:
        """Insert the row of a new cycle; the store assigns its `seq`. Raises InvalidInput if it exists."""

    async def advance_cycle(self, tenant_id: str, cycle_id: str, stage: Stage, *, token: int) -> None:
        """Write the stage that begins. Raises FencedOut if the lease is lost."""

    async def finish_cycle(
        self, tenant_id: str, cycle_id: str, result: LearningCycleResult, *, stage: Stage = "finished"
    ) -> None:
        """Write the end of a cycle with its result (`stage` is `interrupted` after a crash)."""

    async def unfinished_cycles(self, tenant_id: str) -> Sequence[CycleRow]:
        """The cycles of a tenant without an end, oldest first."""

    async def unfinished_tenants(self) -> Sequence[str]:
        """The tenants with unfinished cycles. The cost depends on their number alone."""

    async def cycles(
        self, tenant_id: str | None, *, limit: int = 20, since: int | None = None
    ) -> Sequence[CycleRow]:
        """The newest cycles, newest first; of all tenants if None.

        With `since`, the cycles after that `seq` in order: pass the last `seq` to continue.
        """

    async def cycle(self, tenant_id: str, cycle_id: str) -> CycleRow | None:
        """The row of a cycle; None for an unknown one."""

    async def last_decision(self, tenant_id: str) -> CycleRow | None:
        """The newest cycle that the gates decided; None without one."""

    async def cycle_tallies(self, tenant_id: str | None) -> Mapping[str, float]:
        """Sums over finished cycles: `total`, one per status, `improved`, `trained`, `training_seconds`.

        `trained` counts cycles that trained, `training_seconds` sums `stage_seconds["training"]`.
        """

    async def acquire_lease(
        self, tenant_id: str, owner: str, *, name: str = CYCLE_LEASE, ttl: timedelta
    ) -> Lease | None:
        """The lease if it is free, expired, or held by a process known to be dead; None otherwise.

        `owner` is a name of `memory.owner_of`. Each new holder gets a larger token. The lease `cycle` fences
        `save_curation`, `reject_examples`, `advance_cycle` and `promote`.
        """

    async def lease(self, tenant_id: str, *, name: str = CYCLE_LEASE) -> Lease | None:
        """The lease that a running process holds; None if it is free."""

    async def renew_lease(self, lease: Lease, *, ttl: timedelta) -> Lease:
        """The lease with a later expiry. Raises FencedOut if it is lost."""

    async def release_lease(self, lease: Lease) -> None:
        """Free the lease. Idempotent."""

    async def next_version_number(self, tenant_id: str) -> int:
        """1, 2, 3, ...: each number is returned once, even if the version is never deployed."""

    async def promote(self, tenant_id: str, promotion: Promotion, *, token: int | None) -> bool:
        """Compare-and-set an alias, by default the champion, with all consequences (see `Promotion`).

        False if the alias is not `expected`. Raises FencedOut if the lease is lost.
        """

    async def end_provisional(
        self, tenant_id: str, version: str, *, undo: bool, token: int | None, journal: CycleRow | None = None
    ) -> bool:
        """Let the champion serve again instead of this provisional version.

        With `undo`, its pending examples wait as after a rollback. `journal` is the finished row of a
        rollback, written in the same transaction. False if the version is not provisional any more. Raises
        FencedOut if the lease is lost.
        """

    async def count_undone(self, tenant_id: str, version: str) -> int:
        """The number of examples that a rollback to the version would make wait."""

    async def champion(self, tenant_id: str) -> ModelVersion | None:
        """The version of the alias `champion`."""

    async def alias(self, tenant_id: str, name: str) -> ModelVersion | None:
        """The version of an alias; None if it is not set."""

    async def holdback(self, tenant_id: str) -> Holdback | None:
        """The newest holdback of the tenant, also one that has ended."""

    async def end_holdback(self, tenant_id: str, version: str, *, at: datetime) -> bool:
        """End the holdback of this version at a time, if it runs; whether it did."""

    async def versions(
        self, tenant_id: str, *, limit: int = 100, since: str | None = None
    ) -> Sequence[ModelVersion]:
        """The newest versions, newest first. With `since`, the versions after that version in order."""

    async def get_version(self, tenant_id: str, version: str) -> ModelVersion | None: ...

    async def note_version(self, tenant_id: str, version: str, note: str | None) -> bool:
        """Write the note of a version; None removes it. False for an unknown version."""

    async def outcome_page(
        self, tenant_id: str, *, limit: int, after: int | None = None
    ) -> Sequence[tuple[int, Outcome]]:
        """The newest outcomes with their numbers; with `after`, the first ones after that number.

        In the order of their commits. To continue, pass the number of the last one.
        """

    async def service_state(self, tenant_id: str, name: str) -> Any:
        """A value of the autonomous service; None without one. The tenant "" stands for the home."""

    async def set_service_state(self, tenant_id: str, name: str, value: Any) -> None:
        """Store a JSON value of the autonomous service; None removes it."""

    async def prune_service_states(self, tenant_id: str, *, first: str, last: str) -> int:
        """Remove the values with a name from `first` on and before `last`; their number."""

    async def schedules(self) -> Sequence[Schedule]:
        """The schedules of all tenants, those that are due first."""

    async def save_schedule(self, tenant_id: str, schedule: Schedule) -> None:
        """Store a schedule, in place of one with its name."""

    async def remove_schedule(self, tenant_id: str, name: str) -> None: ...

    async def tenants_with_strategies(self) -> Sequence[str]:
        """The tenants with tallies or switches of strategies, by name."""

    def lineage(self, tenant_id: str, version: str) -> AsyncIterator[str]:
        """Ids of the examples that the version was trained on in its own cycle."""

    async def tenants(self, *, after: str | None = None, limit: int | None = None) -> Sequence[str]:
        """The tenants with data, oldest first. To read in pages, pass the last one as `after`."""

    async def counts(self, tenant_id: str) -> TenantCounts:
        """Counts of a tenant, from counters: the cost does not depend on their values."""

    async def version_counts(self, tenant_id: str, version: str) -> VersionCounts:
        """Counts of the turns that a version analysed, from counters."""

    async def total_turns(self) -> int:
        """The turns of all tenants, from counters."""
