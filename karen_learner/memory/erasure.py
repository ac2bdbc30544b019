"""Erasure of a user from the rows of one tenant."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from karen_learner.concurrency import chunks
from karen_learner.memory import curation, decisions, tenants
from karen_learner.memory.inbox import event_of
from karen_learner.memory.tables import contributions, examples, inbox, turns
from karen_learner.memory.tables import decisions as log
from karen_learner.memory.turn_writer import NewTurn, store_all, write_changes
from karen_learner.memory.turns import Place, StoredTurn, of_user
from karen_learner.records import ConversationMetadata, Turn
from karen_learner.records.erasure import PersonalRows
from karen_learner.records.stream import InboxEvent


def count(connection: Connection, tenant_id: str, user_id: str) -> PersonalRows:
    """The rows of a user."""
    tenant = tenants.find(connection, tenant_id)
    if tenant is None:
        return PersonalRows()

    def rows(table: Any, here: ColumnElement[bool]) -> int:
        counted = select(func.count()).select_from(table).where(table.c.tenant == tenant, here)
        return connection.execute(counted).scalar_one()

    return PersonalRows(
        turns=rows(turns, turns.c.user_id == user_id),
        labels=rows(contributions, contributions.c.user_id == user_id),
        log_entries=rows(log, log.c.user_id == user_id),
        events=len(_events_of(connection, tenant, user_id)),
    )


def erase_page(
    connection: Connection, tenant_id: str, user_id: str, *, alias: str, limit: int
) -> PersonalRows:
    """Erase up to `limit` labels and turns of a user, at the end log entries and events. The erased rows.

    A turn keeps its id, its detected labels and its ratings, under the user id `alias`. So a repeated turn is
    still known, and its text is not stored again.
    """
    tenant = tenants.find(connection, tenant_id)
    if tenant is None:
        return PersonalRows()
    labels = curation.withdraw_user(connection, tenant, user_id, limit=limit)
    if labels == limit:
        return PersonalRows(labels=labels)
    erased = _erase_turns(connection, tenant, user_id, alias=alias, limit=limit)
    if erased == limit:
        return PersonalRows(labels=labels, turns=erased)
    entries = decisions.withdraw(connection, tenant, user_ids=[user_id])
    events = _events_of(connection, tenant, user_id)
    store_all(connection, [NewTurn(_turn_without_person(tenant_id, one, alias)) for one in events])
    for some in chunks([one.seq for one in events]):
        connection.execute(delete(inbox).where(inbox.c.tenant == tenant, inbox.c.seq.in_(some)))
    return PersonalRows(labels=labels, turns=erased, log_entries=entries, events=len(events))


def _turn_without_person(tenant_id: str, event: InboxEvent, alias: str) -> Turn:
    """The turn of an event without content: a process that has read the event stores no text under its id."""
    metadata = ConversationMetadata(
        conversation_id=alias,
        turn_id=event.turn_id,
        tenant_id=tenant_id,
        user_id=alias,
        intent_detected=None,
        intent_confidence=0.0,
        sentiment_detected=None,
        sentiment_confidence=0.0,
        persona_selected="",
        user_satisfaction=None,
        response_quality=None,
        entities_extracted=(),
        linguistic_features={},
        feedback_provided=False,
        correction_needed=False,
        degraded=True,
        model_version=None,
        occurred_at=event.at,
    )
    return Turn(metadata=metadata, user_text=None, assistant_response=None)


def _erase_turns(connection: Connection, tenant: int, user_id: str, *, alias: str, limit: int) -> int:
    before = of_user(connection, tenant, user_id, limit=limit)
    if before:
        write_changes(connection, before, _anonymous(before, alias))
        here = (examples.c.tenant == tenant, examples.c.turn_id.in_([turn_id for _, turn_id in before]))
        connection.execute(update(examples).where(*here, examples.c.user_id == user_id).values(user_id=None))
    return len(before)


def _anonymous(before: dict[Place, StoredTurn], alias: str) -> dict[Place, StoredTurn]:
    return {
        place: StoredTurn(_without_person(stored.turn, alias), awaiting=False, revision=stored.revision + 1)
        for place, stored in before.items()
    }


def _without_person(turn: Turn, alias: str) -> Turn:
    """The turn without content, and with `alias` in place of its user and conversation."""
    left = turn.without_content()
    names = {"user_id": alias, "conversation_id": alias}
    return left.model_copy(update={"metadata": left.metadata.model_copy(update=names)})


def _events_of(connection: Connection, tenant: int, user_id: str) -> list[InboxEvent]:
    """The events with a turn of the user. No index has it: each event of the tenant is searched."""
    in_json = f'"user_id":{json.dumps(user_id, ensure_ascii=False)}'
    here = (inbox.c.tenant == tenant, inbox.c.body.contains(in_json, autoescape=True))
    found = connection.execute(select(inbox).where(*here))
    # LIKE of SQLite ignores the case of letters
    return [event_of(row) for row in found if in_json in row.body]
