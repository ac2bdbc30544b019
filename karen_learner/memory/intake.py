"""Turns and feedback that come in: a batch of them becomes rows, merged rows and counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import PydanticSerializationError
from sqlalchemy import Connection

from karen_learner.errors import InvalidInput, UnknownTurn
from karen_learner.memory import counters, examples, tenants, turns
from karen_learner.memory.counting import Counts, change, kind_counts, total, turn_kind
from karen_learner.memory.turns import Place, StoredTurn
from karen_learner.records import Turn, UserFeedback


class NewTurn:
    """A turn as it may be stored, with its JSON. Raises InvalidInput when made, not in a batch."""

    __slots__ = ("body", "kind", "tenant_id", "turn", "turn_id")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn.permitted()
        self.body = turns.serialised(self.turn)
        self.kind = turn_kind(self.turn, awaiting=_awaits(self.turn))
        self.tenant_id = turn.metadata.tenant_id
        self.turn_id = turn.metadata.turn_id

    @property
    def feedback(self) -> UserFeedback | None:
        return self.turn.feedback

    def row(self, tenant: int) -> tuple[int, str, bool, bool, int, str]:
        """The values of `turns.COLUMNS`."""
        _, _, awaiting, _ = self.kind
        return tenant, self.turn_id, awaiting, self.turn.user_text is not None, 0, self.body


@dataclass(frozen=True, slots=True)
class LateFeedback:
    """Feedback on a turn that was stored before."""

    tenant_id: str
    turn_id: str
    feedback: UserFeedback

    @classmethod
    def of(cls, tenant_id: str, turn_id: str, feedback: UserFeedback) -> LateFeedback:
        """Raises InvalidInput for text that is not Unicode."""
        try:
            f"{tenant_id}{turn_id}".encode()
            feedback.model_dump_json()
        except (UnicodeEncodeError, PydanticSerializationError) as error:
            raise InvalidInput(f"feedback on {turn_id!r} cannot be stored: {error}") from error
        return cls(tenant_id, turn_id, feedback)


Incoming = NewTurn | LateFeedback
Outcome = Turn | Exception


def store(connection: Connection, items: Sequence[Incoming]) -> Sequence[Outcome]:
    """Write a batch in the transaction of `connection`: for each the turn as stored, or UnknownTurn."""
    numbers = _numbers(connection, items)
    first = _first(numbers, items)
    added = turns.add(connection, [new.row(place[0]) for place, new in first.items()])
    fresh = {id(new): added[place] for place, new in first.items() if place in added}
    later = [_place(numbers, item) for item in items if id(item) not in fresh]
    before = turns.find(connection, [place for place in dict.fromkeys(later) if place is not None])
    after = dict(before)
    outcomes: list[Outcome] = []
    for item in items:
        seq = fresh.get(id(item))
        if isinstance(item, NewTurn) and seq is not None:
            outcomes.append(turns.numbered(item.turn, seq))
        else:
            outcomes.append(_merge(after, _place(numbers, item), item))
    _write_changes(connection, before, after)
    counters.add(connection, new_counts((place[0], first[place]) for place in added))
    return outcomes


def new_counts(added: Iterable[tuple[int, NewTurn]]) -> Mapping[int, Counts]:
    """What new turns (with their tenants' numbers) add to the counters."""
    kinds = Counter((tenant, new.kind) for tenant, new in added)
    parts: dict[int, list[Counts]] = {}
    for (tenant, kind), times in kinds.items():
        parts.setdefault(tenant, []).append(kind_counts(kind, times))
    return {tenant: total(counts) for tenant, counts in parts.items()}


def _numbers(connection: Connection, items: Sequence[Incoming]) -> Mapping[str, int | None]:
    """The tenants' numbers. A turn makes its tenant known, feedback does not."""
    known: dict[str, int | None] = {}
    for item in sorted(items, key=lambda item: isinstance(item, LateFeedback)):
        if item.tenant_id not in known:
            look_up = tenants.ensure if isinstance(item, NewTurn) else tenants.find
            known[item.tenant_id] = look_up(connection, item.tenant_id)
    return known


def _first(numbers: Mapping[str, int | None], items: Sequence[Incoming]) -> Mapping[Place, NewTurn]:
    first: dict[Place, NewTurn] = {}
    for item in items:
        place = _place(numbers, item)
        if isinstance(item, NewTurn) and place is not None:
            first.setdefault(place, item)
    return first


def _place(numbers: Mapping[str, int | None], item: Incoming) -> Place | None:
    tenant = numbers[item.tenant_id]
    return None if tenant is None else (tenant, item.turn_id)


def _merge(known: dict[Place, StoredTurn], place: Place | None, item: Incoming) -> Outcome:
    stored = None if place is None else known.get(place)
    if place is None or stored is None:
        return UnknownTurn(f"the tenant {item.tenant_id!r} has no turn {item.turn_id!r} to give feedback on")
    if item.feedback is None:
        return stored.turn
    turn = stored.turn.with_feedback(item.feedback)
    if turn != stored.turn:  # the same feedback again, as after a lost answer, is nothing new to curate
        known[place] = StoredTurn(turn, _awaits(turn), stored.revision + 1)
    return turn


def _write_changes(
    connection: Connection, before: Mapping[Place, StoredTurn], after: Mapping[Place, StoredTurn]
) -> None:
    changed = {place: new for place, new in after.items() if new is not before[place]}
    turns.replace(connection, changed)
    for place, new in changed.items():
        tenant, turn_id = place
        counters.add(connection, {tenant: change(_counts(before[place]), _counts(new))})
        if before[place].turn.user_text is not None and new.turn.user_text is None:
            examples.withdraw(connection, tenant, [turn_id])


def _counts(stored: StoredTurn) -> Counts:
    return kind_counts(turn_kind(stored.turn, awaiting=stored.awaiting))


def _awaits(turn: Turn) -> bool:
    return turn.feedback is not None and turn.is_permitted
