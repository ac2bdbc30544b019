"""Protocols of the stores that a part of the library needs. A `MemoryStore` is most of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from karen_learner.records import Outcome
from karen_learner.records.access import ApiKey, AuditEntry, Session
from karen_learner.records.incidents import Incident, RemedyPause
from karen_learner.records.notifications import Notification, NotificationSeverity, OutboxRow, TargetState
from karen_learner.records.reviews import Contributor, Review, ReviewDecision
from karen_learner.records.strategies import StrategyState, StrategySwitch, StrategyTally, SwitchName
from karen_learner.records.stream import InboxEvent, InboxState, NewEvent


class AccessStore(Protocol):
    """API keys, sessions and the audit log of the service. `SqlMemoryStore` is one."""

    async def api_keys(self) -> Sequence[ApiKey]:
        """All keys, oldest first, also revoked ones."""

    async def add_api_key(self, key: ApiKey) -> None:
        """Store a new key."""

    async def revoke_api_key(self, key_id: str, *, at: datetime) -> bool:
        """Revoke a key; whether there is such a key that was not revoked."""

    async def add_session(self, session: Session, *, now: datetime) -> None:
        """Store a new session of a browser, and remove those that have expired."""

    async def session(self, digest: str) -> Session | None:
        """The session with this digest, also an expired one; None for an unknown one."""

    async def end_session(self, digest: str) -> None:
        """Remove a session."""

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Store entries of the audit log."""

    async def audit(
        self, *, tenant_id: str | None = None, before: int | None = None, limit: int = 100
    ) -> Sequence[tuple[int, AuditEntry]]:
        """The newest entries with their `seq`, newest first: of a tenant or all, before `before`."""

    async def prune_audit(self, *, before: datetime) -> int:
        """Remove the entries before this time; their number."""


class OutboxStore(Protocol):
    """Notifications that wait for delivery, one row for each target. A `MemoryStore` is one."""

    async def add_notification(
        self, new: Notification, due: Mapping[str, datetime], *, now: datetime, repeat: timedelta
    ) -> int:
        """Queue a notification for targets, each due at a time. Returns the number of targets.

        Left out: a problem that was reported within `repeat` with the same or a higher severity. So is a
        recovery of a problem that was not reported.
        """

    async def claim_notifications(
        self, target: str, *, message_id: str, now: datetime, until: datetime, limit: int
    ) -> Sequence[OutboxRow]:
        """The notifications of the next message, if one is due; no other process gets them before `until`."""

    async def deliver_notifications(self, seqs: Sequence[int], *, now: datetime) -> None:
        """Mark notifications as accepted by their target."""

    async def retry_notifications(
        self, next_at: Mapping[int, datetime | None], *, now: datetime, error: str
    ) -> None:
        """Record a failed attempt. A notification whose next time is None is given up."""

    async def end_targets(self, known: Sequence[str], *, now: datetime) -> int:
        """Give up the waiting notifications of all other targets than these; their number."""

    async def prune_notifications(self, *, before: datetime) -> int:
        """Remove the notifications whose delivery ended before this time; their number."""

    async def messages_since(self, target: str, severity: NotificationSeverity, since: datetime) -> int:
        """The number of accepted messages to a target, with a notification of this severity."""

    async def is_waiting(self, target: str, severity: NotificationSeverity) -> bool:
        """Whether a notification of this severity waits for delivery to a target."""

    async def target_states(self) -> Sequence[TargetState]:
        """The state of each target with stored notifications, by name."""


class IncidentStore(Protocol):
    """Incidents of tenants and of the home, and paused remedies. A `MemoryStore` is one."""

    async def save_incident(self, incident: Incident) -> Incident | None:
        """Store a new incident (revision 0), or a change of the stored one, with the next revision.

        None, with nothing stored, if another process has changed the incident, or one of this type is open.
        """

    async def unended_incidents(self, *, limit: int = 1_000) -> Sequence[Incident]:
        """The incidents of all tenants that have not ended, oldest first."""

    async def newest_incidents(
        self, tenant_id: str | None = None, *, since: datetime | None = None, limit: int = 100
    ) -> Sequence[Incident]:
        """The newest incidents of a tenant and of the home, or of all tenants, newest first."""

    async def find_incidents(
        self, part: str, *, tenant_ids: Sequence[str | None] | None = None
    ) -> Sequence[Incident]:
        """Up to five incidents whose id begins or ends with the part; None among the tenants is the home."""

    async def prune_incidents(self, *, before: datetime) -> int:
        """Remove the incidents that ended before this time; their number."""

    async def pause_remedy(self, new: RemedyPause) -> None:
        """Pause a remedy, in place of an earlier pause of the tenant."""

    async def resume_remedy(self, remedy: str, tenant_id: str | None) -> bool:
        """End a pause; whether there was one."""

    async def paused_remedies(self) -> Sequence[RemedyPause]:
        """All paused remedies."""


class OutcomeStore(Protocol):
    """Stores outcomes of agents and models."""

    async def add_outcomes(self, tenant_id: str, new: Sequence[Outcome]) -> None:
        """Store outcomes. One with a stored `outcome_id` is the same outcome: nothing changes."""

    async def newest_outcomes(self, tenant_id: str, *, since: datetime, limit: int) -> Sequence[Outcome]:
        """The newest outcomes that became known after `since`, oldest first."""

    async def prune_outcomes(self, tenant_id: str, *, before: datetime) -> int:
        """Remove the outcomes that became known before this time; their number."""


class StrategyStore(Protocol):
    """Stores tallies and switches of strategies."""

    async def strategies(self, tenant_id: str) -> StrategyState:
        """The tallies and switches of a tenant's strategies."""

    async def add_strategy_tallies(
        self, tenant_id: str, new: Sequence[StrategyTally], *, half_life_s: float
    ) -> None:
        """Add tallies to the stored ones, each discounted to the later time."""

    async def put_strategy_switch(self, tenant_id: str, switch: StrategySwitch) -> None:
        """Store a switch in place of those with its name and domain."""

    async def end_strategy_switch(self, tenant_id: str, name: SwitchName, domain: str) -> None:
        """Remove the switch of this name in a domain."""


class InboxStore(StrategyStore, Protocol):
    """Stores events of streams, and the tallies of strategies that follow from them."""

    async def add_events(self, tenant_id: str, new: Sequence[NewEvent], *, now: datetime) -> int:
        """Store events in the inbox. One with a stored key is the same event. The number of new ones.

        An event of the future counts as of `now`: a wrong clock must not outweigh all other events.
        """

    async def waiting_events(self, tenant_id: str, *, limit: int) -> Sequence[InboxEvent]:
        """The oldest events that wait for processing."""

    async def count_waiting_events(self, tenant_id: str) -> int:
        """The number of events that wait. The cost depends on this number."""

    async def newest_events(
        self, tenant_id: str, *, limit: int, state: InboxState | None = None
    ) -> Sequence[InboxEvent]:
        """The newest events, oldest first: those in a state, or all that do not wait."""

    async def finish_events(self, tenant_id: str, seqs: Sequence[int], outcomes: Sequence[Outcome]) -> int:
        """Make waiting events `ready`, and store their outcomes. The number of those that waited."""

    async def learn_events(
        self,
        tenant_id: str,
        learned: Sequence[tuple[int, StrategyTally]],
        *,
        half_life_s: float,
        reset: bool,
    ) -> int:
        """Add the tallies of events, and make these events `learned`. The number of used events.

        An event that another process has learned meanwhile is left out. With `reset`, all tallies of attempts
        are removed first, and learned events count again.
        """

    async def prune_events(self, tenant_id: str, *, before: datetime) -> int:
        """Remove processed events that arrived before this time; their number."""


class ReviewStore(Protocol):
    """Reviews of texts by people, and contributors. A `MemoryStore` is one."""

    async def claim_review(
        self, tenant_id: str, item_id: str, reviewer: str, *, now: datetime, until: datetime
    ) -> Review | None:
        """The review, leased to this reviewer until a time; None if it is another one's, or decided."""

    async def change_review(
        self,
        tenant_id: str,
        item_id: str,
        reviewer: str,
        *,
        draft: Mapping[str, Any] | None,
        decision: ReviewDecision | None = None,
        decided_at: datetime | None = None,
    ) -> bool:
        """Write the draft and the decision of a review; False if it is another one's."""

    async def reviews(self, tenant_id: str, item_ids: Sequence[str]) -> Mapping[str, Review]:
        """The reviews of items, by id. Unopened items have none."""

    async def last_review(self, tenant_id: str, reviewer: str) -> Review | None:
        """The review that a reviewer has decided last."""

    async def people(self, tenant_id: str, *, newest: int, limit: int) -> Sequence[Contributor]:
        """The users with the most of the `newest` contributions, most first."""
