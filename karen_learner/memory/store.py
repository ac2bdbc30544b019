"""`SqlMemoryStore`: `MemoryStore` on SQLAlchemy. It runs the functions of this package in transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from karen_learner.concurrency import Batcher
from karen_learner.contracts import Clock
from karen_learner.memory import access as access_rows
from karen_learner.memory import contributions as contribution_rows
from karen_learner.memory import (
    counters,
    curation,
    data_revisions,
    erasure,
    ids,
    journal,
    lease_rows,
    schema,
    service_states,
)
from karen_learner.memory import decisions as decision_rows
from karen_learner.memory import examples as example_rows
from karen_learner.memory import inbox as inbox_rows
from karen_learner.memory import incidents as incident_rows
from karen_learner.memory import labels as label_rows
from karen_learner.memory import outbox as outbox_rows
from karen_learner.memory import outcomes as outcome_rows
from karen_learner.memory import recommendations as recommendation_rows
from karen_learner.memory import reviews as review_rows
from karen_learner.memory import strategies as strategy_rows
from karen_learner.memory import tenants as tenant_rows
from karen_learner.memory import tickets as ticket_rows
from karen_learner.memory import turns as turn_rows
from karen_learner.memory import versions as version_rows
from karen_learner.memory.database import Database, Work
from karen_learner.memory.engine import parse_url
from karen_learner.memory.turn_writer import Incoming, LateFeedback, NewTurn, TurnWriter
from karen_learner.records import (
    CHAMPION,
    CYCLE_LEASE,
    AwaitingTurn,
    Contribution,
    CycleRow,
    Example,
    ExampleState,
    LearningCycleResult,
    Lease,
    ModelVersion,
    Outcome,
    Promotion,
    Stage,
    Turn,
    UserFeedback,
    utc_now,
)
from karen_learner.records.base import to_micros
from karen_learner.records.decisions import LogEntry
from karen_learner.settings import StoreSettings

P = ParamSpec("P")
T = TypeVar("T")

PAGE = 100
"""Turns or outcomes of a period that are read at once: a few milliseconds of the event loop."""
HOME_ROWS = "(home)"
"""Lock of the rows that belong to no tenant."""


def open_store(
    url_or_path: str | Path, settings: StoreSettings, *, clock: Clock = utc_now, read_only: bool = False
) -> SqlMemoryStore:
    """A store that is not started yet: use it with `async with`, or await `start()`.

    `url_or_path` is `":memory:"`, the path of an SQLite file, or an SQLAlchemy URL of SQLite or PostgreSQL.
    Raises SettingsError for any other database. `settings.url` is ignored. With `read_only` nothing is
    written; an SQLite file that cannot be written is opened so with a warning.
    """
    url, timeout = parse_url(url_or_path), settings.busy_timeout_s
    return SqlMemoryStore(Database(url, busy_timeout_s=timeout, read_only=read_only), settings, clock)


def _reads(work: Work[P, T]) -> Callable[Concatenate[SqlMemoryStore, P], Coroutine[Any, Any, T]]:
    """The method that runs `work` on a reading connection."""

    async def method(store: SqlMemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store._database.read(work, *args, **kwargs)

    return method


def _writes(work: Work[P, T]) -> Callable[Concatenate[SqlMemoryStore, P], Coroutine[Any, Any, T]]:
    """The method that runs `work` in a transaction. Its first argument is the tenant that it writes to."""

    async def method(store: SqlMemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        tenant_id = args[0] if args else kwargs["tenant_id"]
        return await store._database.write((str(tenant_id),), work, *args, **kwargs)

    return method


def _writes_home(work: Work[P, T]) -> Callable[Concatenate[SqlMemoryStore, P], Coroutine[Any, Any, T]]:
    """As `_writes`, for rows that belong to the home and not to a tenant."""

    async def method(store: SqlMemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store._database.write((HOME_ROWS,), work, *args, **kwargs)

    return method


def _writes_urgently(
    work: Work[P, T],
) -> Callable[Concatenate[SqlMemoryStore, P], Coroutine[Any, Any, T]]:
    """As `_writes`, for writes that may use the reserved space of a full disk."""

    async def method(store: SqlMemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        tenant_id = args[0] if args else kwargs["tenant_id"]
        return await store._database.write_urgently((str(tenant_id),), work, *args, **kwargs)

    return method


class SqlMemoryStore:
    """The `MemoryStore` of SQLite and PostgreSQL. `open_store` makes one."""

    def __init__(self, database: Database, settings: StoreSettings, clock: Clock = utc_now) -> None:
        self._database = database
        self._page_size = settings.page_size
        self._clock = clock
        self._outcomes = outcome_rows.OutcomeWriter(database)
        self._decisions = decision_rows.DecisionWriter(database)
        self._incoming: Batcher[Incoming, Turn] = Batcher(
            TurnWriter(database).write,
            queue_size=settings.queue_size,
            max_batch=settings.max_batch,
            owner=f"the store {database.place}",
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def snapshot(self, target: Path) -> None:
        await self._database.snapshot(target)

    @property
    def read_only(self) -> str | None:
        return self._database.read_only

    async def start(self) -> None:
        await self._database.start()

    async def close(self) -> None:
        await self._incoming.close()
        await self._database.close()

    damages = _reads(schema.damages)

    async def vacuum(self) -> int:
        return await self._database.vacuum()

    async def empty_log(self) -> None:
        await self._database.empty_log()

    async def _pages(
        self, page: Callable[..., Sequence[Any]], *args: object, after: int | None = 0
    ) -> AsyncIterator[Sequence[Any]]:
        """Pages of rows. Each is read by itself, after the `seq` of the last row."""
        while rows := await self._database.read(page, *args, after=after, size=self._page_size):
            yield rows
            after = rows[-1].seq

    async def add_turn(self, turn: Turn) -> Turn:
        self._database.require_open()
        return await self._incoming.submit(NewTurn(turn))

    async def add_feedback(self, tenant_id: str, turn_id: str, feedback: UserFeedback) -> Turn:
        self._database.require_open()
        return await self._incoming.submit(LateFeedback.of(tenant_id, turn_id, feedback))

    get_turn = _reads(turn_rows.get)
    personal_rows = _reads(erasure.count)
    erase_page = _writes(erasure.erase_page)

    async def turns(self, tenant_id: str, *, after_seq: int = 0) -> AsyncIterator[Turn]:
        async for page in self._pages(turn_rows.page, tenant_id, after=after_seq):
            for turn in page:
                yield turn

    async def turns_between(
        self, tenant_id: str, start: datetime, end: datetime, *, with_feedback: bool = False
    ) -> AsyncIterator[Sequence[Turn]]:
        """Pages of the turns, or of those with feedback, that occurred from `start` until `end`, by time."""
        after, work = (to_micros(start), -1), partial(turn_rows.between, with_feedback=with_feedback)
        while page := await self._database.read(work, tenant_id, end, after=after, size=PAGE):
            yield page
            after = turn_rows.place_in_time(page[-1])

    async def outcomes_between(
        self, tenant_id: str, start: datetime, end: datetime
    ) -> AsyncIterator[Sequence[Outcome]]:
        """Pages of the outcomes that became known from `start` until `end`, by time."""
        after, work = (start, -1), outcome_rows.between
        while page := await self._database.read(work, tenant_id, end, after=after, size=PAGE):
            yield [one for _, one in page]
            after = (page[-1][1].known_at, page[-1][0])

    def turns_awaiting_curation(
        self, tenant_id: str, *, after_seq: int = 0
    ) -> AsyncIterator[Sequence[AwaitingTurn]]:
        return self._pages(turn_rows.awaiting_page, tenant_id, after=after_seq)

    save_curation = _writes(curation.save_curation)
    examples_by_key = _reads(example_rows.by_key)
    examples_by_id = _reads(example_rows.by_id)
    example_texts = _reads(example_rows.texts)
    recent_texts = _reads(turn_rows.recent_texts)
    newest_turns = _reads(turn_rows.newest)
    gold_groups = _reads(example_rows.gold_groups)
    masks = _reads(version_rows.masks_of)
    has_masks = _reads(version_rows.has_masks)
    store_masks = _writes(version_rows.store_masks)
    prune_masks = _writes(version_rows.prune_masks)

    async def examples(
        self,
        tenant_id: str,
        *,
        state: ExampleState,
        gold: bool | None = None,
        newest_first: bool = False,
    ) -> AsyncIterator[Example]:
        pages = self._pages(example_rows.page, tenant_id, state, gold, newest_first, after=None)
        async for page in pages:
            for example in page:
                yield example

    contributions = _reads(contribution_rows.by_key)
    contributors = _reads(contribution_rows.contributors)
    people = _reads(contribution_rows.people)

    def unusable_contributions(self, tenant_id: str) -> AsyncIterator[Sequence[Contribution]]:
        return self._pages(contribution_rows.unusable_page, tenant_id)

    sample_learned = _reads(example_rows.sample)
    strata = _reads(counters.strata)
    labels = _reads(counters.label_schema)
    declare_labels = _writes(counters.declare)
    gold_labels = _reads(counters.gold_labels)
    label_successors = _reads(label_rows.successors)
    change_label = _writes(label_rows.change)
    reject_examples = _writes(curation.reject)
    end_waiting = _writes_urgently(curation.end_waiting)
    decide_examples = _writes(curation.decide)
    matching_ids = _reads(ids.matching)

    async def start_cycle(self, row: CycleRow) -> None:
        await self._database.write_urgently(None, journal.start, row)

    advance_cycle = _writes(journal.advance)

    async def finish_cycle(
        self, tenant_id: str, cycle_id: str, result: LearningCycleResult, *, stage: Stage = "finished"
    ) -> None:
        now = self._clock()
        finish, tenants = journal.finish, (tenant_id,)
        await self._database.write_urgently(tenants, finish, tenant_id, cycle_id, result, stage, now)

    unfinished_cycles = _reads(journal.unfinished)
    unfinished_tenants = _reads(journal.unfinished_tenants)
    cycles = _reads(journal.page)
    cycle = _reads(journal.find)
    last_decision = _reads(journal.last_decision)
    cycle_tallies = _reads(counters.tallies)

    async def acquire_lease(
        self, tenant_id: str, owner: str, *, name: str = CYCLE_LEASE, ttl: timedelta
    ) -> Lease | None:
        acquire, now = lease_rows.acquire, self._clock()
        return await self._database.write_urgently(
            (tenant_id,), acquire, tenant_id, owner, name=name, now=now, ttl=ttl
        )

    async def lease(self, tenant_id: str, *, name: str = CYCLE_LEASE) -> Lease | None:
        return await self._database.read(lease_rows.held, tenant_id, name=name, now=self._clock())

    async def renew_lease(self, lease: Lease, *, ttl: timedelta) -> Lease:
        renew, now = lease_rows.renew, self._clock()
        return await self._database.write_urgently((lease.tenant_id,), renew, lease, now=now, ttl=ttl)

    async def release_lease(self, lease: Lease) -> None:
        await self._database.write_urgently((lease.tenant_id,), lease_rows.release, lease)

    next_version_number = _writes(version_rows.next_number)
    count_undone = _reads(version_rows.count_undone)
    alias = _reads(version_rows.alias)
    versions = _reads(version_rows.page)
    get_version = _reads(version_rows.find)
    note_version = _writes(version_rows.write_note)
    holdback = _reads(version_rows.holdback)
    end_holdback = _writes(version_rows.end_holdback)
    tickets = _reads(ticket_rows.newest)
    find_tickets = _reads(ticket_rows.find)
    add_ticket = _writes(ticket_rows.add)
    change_ticket = _writes(ticket_rows.change)
    impacts = _reads(ticket_rows.impacts_of)
    add_impact = _writes(ticket_rows.add_impact)
    count_turns = _reads(turn_rows.count_between)

    async def add_outcomes(self, tenant_id: str, new: Sequence[Outcome]) -> None:
        await self._outcomes.write(tenant_id, new)

    async def add_decisions(self, tenant_id: str, new: Sequence[LogEntry]) -> int:
        """Store log entries. One with a stored key is the same entry. The number of new ones."""
        return await self._decisions.write(tenant_id, new)

    save_recommendations = _writes(recommendation_rows.save)
    mark_recommendation = _writes(recommendation_rows.mark)
    find_recommendation = _reads(recommendation_rows.find)
    newest_recommendations = _reads(recommendation_rows.newest)
    decision = _reads(decision_rows.get)
    decision_sums = _reads(decision_rows.sums)
    decision_groups = _reads(decision_rows.groups)
    data_revision = _reads(data_revisions.of_period)
    decision_reasons = _reads(decision_rows.reasons)
    bad_decisions = _reads(decision_rows.bad_entries)
    erase_decisions = _writes(decision_rows.erase)
    prune_decisions = _writes(decision_rows.prune)
    newest_outcomes = _reads(outcome_rows.newest)
    outcome_page = _reads(outcome_rows.page)
    service_state = _reads(service_states.read)
    set_service_state = _writes(service_states.write)
    prune_service_states = _writes(service_states.prune)
    schedules = _reads(service_states.all_schedules)
    save_schedule = _writes(service_states.save_schedule)
    remove_schedule = _writes(service_states.remove_schedule)
    prune_outcomes = _writes(outcome_rows.prune)
    strategies = _reads(strategy_rows.read)
    add_strategy_tallies = _writes(strategy_rows.add)
    put_strategy_switch = _writes(strategy_rows.put_switch)
    end_strategy_switch = _writes(strategy_rows.end_switch)
    tenants_with_strategies = _reads(strategy_rows.tenants_with_strategies)
    add_notification = _writes_home(outbox_rows.add)
    claim_notifications = _writes_home(outbox_rows.claim)
    deliver_notifications = _writes_home(outbox_rows.deliver)
    retry_notifications = _writes_home(outbox_rows.retry)
    end_targets = _writes_home(outbox_rows.end_targets)
    prune_notifications = _writes_home(outbox_rows.prune)
    messages_since = _reads(outbox_rows.messages_since)
    is_waiting = _reads(outbox_rows.is_waiting)
    target_states = _reads(outbox_rows.states)
    save_incident = _writes_home(incident_rows.save)
    unended_incidents = _reads(incident_rows.unended)
    newest_incidents = _reads(incident_rows.newest)
    find_incidents = _reads(incident_rows.find)
    prune_incidents = _writes_home(incident_rows.prune)
    pause_remedy = _writes_home(incident_rows.pause)
    resume_remedy = _writes_home(incident_rows.resume)
    paused_remedies = _reads(incident_rows.pauses)
    claim_review = _writes(review_rows.claim)
    change_review = _writes(review_rows.change)
    reviews = _reads(review_rows.of_items)
    last_review = _reads(review_rows.last_decided)
    page_use = _reads(schema.page_use)
    api_keys = _reads(access_rows.keys)
    add_api_key = _writes_home(access_rows.add_key)
    revoke_api_key = _writes_home(access_rows.revoke_key)
    add_session = _writes_home(access_rows.add_session)
    session = _reads(access_rows.session)
    end_session = _writes_home(access_rows.end_session)
    audit = _reads(access_rows.audit)
    add_audit = _writes_home(access_rows.add_audit)
    prune_audit = _writes_home(access_rows.prune_audit)
    add_events = _writes(inbox_rows.add)
    waiting_events = _reads(inbox_rows.waiting)
    count_waiting_events = _reads(inbox_rows.count_waiting)
    newest_events = _reads(inbox_rows.newest)
    event_sums = _reads(inbox_rows.sums)
    finish_events = _writes(inbox_rows.finish)
    learn_events = _writes(inbox_rows.learn)
    prune_events = _writes(inbox_rows.prune)

    async def promote(self, tenant_id: str, promotion: Promotion, *, token: int | None) -> bool:
        tenants = (tenant_id,) if promotion.journal is None else None
        work = version_rows.promote
        return await self._database.write_urgently(tenants, work, tenant_id, promotion, token=token)

    async def end_provisional(
        self, tenant_id: str, version: str, *, undo: bool, token: int | None, journal: CycleRow | None = None
    ) -> bool:
        tenants = (tenant_id,) if journal is None else None
        end = version_rows.end_provisional
        return await self._database.write_urgently(
            tenants, end, tenant_id, version, undo=undo, token=token, row=journal
        )

    async def champion(self, tenant_id: str) -> ModelVersion | None:
        return await self.alias(tenant_id, CHAMPION)

    async def lineage(self, tenant_id: str, version: str) -> AsyncIterator[str]:
        async for page in self._pages(version_rows.lineage_page, tenant_id, version):
            for row in page:
                yield row.example_id

    tenants = _reads(tenant_rows.page)
    tenant_number = _reads(tenant_rows.find)
    counts = _reads(counters.overview)
    version_counts = _reads(counters.of_version)
    total_turns = _reads(counters.total_turns)
