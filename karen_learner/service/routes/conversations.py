"""Analyses, turns and feedback."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header

from karen_learner.errors import KarenLearnerError, UnknownTurn
from karen_learner.records import Analysis, ConversationMetadata, Turn
from karen_learner.service.bodies import AnalyzeBody, StoredTurn, StoredTurns, TurnBody, TurnsBody
from karen_learner.service.parts import Parts, Shared, TenantId, allow
from karen_learner.service.problems import Problem, problem_of

router = APIRouter(prefix="/v1/tenants/{tenant_id}", tags=["conversations"])

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=1_000, description="The `turn_id`, if the body has none."),
]


@router.post("/analyze", dependencies=[allow("converse")])
async def analyze(tenant_id: TenantId, body: AnalyzeBody, parts: Shared) -> list[Analysis]:
    """Intent, sentiment and entities of texts, in order. Stores nothing."""
    return await parts.learner.analyze_many(tenant_id, body.texts, user_id=body.user_id)


@router.post("/turns", status_code=201, dependencies=[allow("converse")])
async def add_turn(
    tenant_id: TenantId, body: TurnBody, parts: Shared, idempotency_key: IdempotencyKey = None
) -> ConversationMetadata:
    """Analyse and store one turn. It is on disk when the answer comes.

    The same `turn_id` is the same turn: repeat a request whose answer was lost.
    """
    return await _collect(parts, tenant_id, body, turn_id=body.turn_id or idempotency_key)


@router.post("/turns/batch", dependencies=[allow("converse")])
async def add_turns(tenant_id: TenantId, body: TurnsBody, parts: Shared) -> StoredTurns:
    """Analyse and store many turns. One that is not stored has its problem at its position."""
    turns = await asyncio.gather(*(_stored(parts, tenant_id, turn) for turn in body.turns))
    return StoredTurns(stored=sum(turn.problem is None for turn in turns), turns=list(turns))


@router.post("/turns/{turn_id}/feedback", dependencies=[allow("converse")])
async def add_feedback(
    tenant_id: TenantId, turn_id: str, body: dict[str, object], parts: Shared
) -> ConversationMetadata:
    """Merge feedback into a stored turn. `{"consent": false}` removes its words."""
    return await parts.learner.add_feedback(tenant_id, turn_id, body)


@router.get("/turns/{turn_id}", dependencies=[allow("administer")])
async def turn(tenant_id: TenantId, turn_id: str, parts: Shared) -> Turn:
    """A stored turn with its texts. The audit log has each request."""
    await parts.learner.start()
    found = await parts.learner.store.get_turn(tenant_id, turn_id)
    if found is None:
        raise UnknownTurn(f"{tenant_id!r} has no such turn")
    return found


async def _collect(
    parts: Parts, tenant_id: str, body: TurnBody, *, turn_id: str | None
) -> ConversationMetadata:
    return await parts.learner.collect_conversation_metadata(
        tenant_id,
        body.user_text,
        body.assistant_response,
        body.user_id,
        body.user_feedback,
        conversation_id=body.conversation_id,
        turn_id=turn_id,
        occurred_at=body.occurred_at,
    )


async def _stored(parts: Parts, tenant_id: str, body: TurnBody) -> StoredTurn:
    try:
        found = await _collect(parts, tenant_id, body, turn_id=body.turn_id)
    except KarenLearnerError as error:
        problem = Problem.model_validate_json(bytes(problem_of(error).body))
        return StoredTurn(turn_id=body.turn_id, problem=problem)
    return StoredTurn(turn_id=found.turn_id, intent=found.intent_detected, sentiment=found.sentiment_detected)
