"""Analyses, turns and feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from asyncio_extras import call_in_executor
from fastapi import Header
from pydantic import BaseModel
from starlette.responses import Response

from karen_learner.collection.turns import CharacterSanitizer, TurnDraft, draft_turn
from karen_learner.errors import InvalidInput, KarenLearnerError, SpoolFull, UnknownTurn
from karen_learner.records import Analysis, ConversationMetadata, Turn
from karen_learner.service.bodies import (
    AnalyzeBody,
    SpooledTurn,
    SpooledTurns,
    StoredTurn,
    StoredTurns,
    TurnBody,
    TurnsBody,
)
from karen_learner.service.large_bodies import api_router, gather_in_steps
from karen_learner.service.parts import Parts, Shared, TenantId, allow
from karen_learner.service.problems import as_problem

router = api_router(prefix="/v1/tenants/{tenant_id}", tags=["conversations"])

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=1_000, description="The `turn_id`, if the body has none."),
]
Prefer = Annotated[
    list[str] | None, Header(description="`respond-async`: answer before the analysis (RFC 7240).")
]
RESPOND_ASYNC = "respond-async"
NOT_SPOOLED = (
    "too many turns wait for their analysis, or the spool cannot be written: repeat the request later, or "
    f"without `Prefer: {RESPOND_ASYNC}`"
)


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


@router.post(
    "/turns/batch",
    dependencies=[allow("converse")],
    response_model=StoredTurns,
    responses={202: {"model": SpooledTurns, "description": "With `Prefer: respond-async`: turns on disk."}},
)
async def add_turns(
    tenant_id: TenantId, body: TurnsBody, parts: Shared, prefer: Prefer = None
) -> StoredTurns | Response:
    """Analyse and store many turns. One that is not stored has its problem at its position.

    With `Prefer: respond-async` (RFC 7240) the answer (202) comes when the turns are on disk. They are
    analysed later, after a restart if necessary. Turns without a `turn_id` get one. 503 with `Retry-After`
    says that too many turns wait: none of the batch is stored.
    """
    if _prefers_async(prefer):
        return await _spooled(parts, tenant_id, body.turns)
    turns = await gather_in_steps(_stored(parts, tenant_id, turn) for turn in body.turns)
    return StoredTurns(stored=sum(turn.problem is None for turn in turns), turns=turns)


@router.post(
    "/turns/{turn_id}/feedback",
    dependencies=[allow("converse")],
    response_model=ConversationMetadata,
    responses={
        202: {"model": SpooledTurn, "description": "The turn waits, and the feedback waits after it."}
    },
)
async def add_feedback(
    tenant_id: TenantId, turn_id: str, body: dict[str, object], parts: Shared
) -> ConversationMetadata | Response:
    """Merge feedback into a stored turn. `{"consent": false}` removes its words.

    If the turn waits for its analysis, the feedback is on disk, and is merged after the turn is stored (202).
    """
    try:
        return await parts.learner.add_feedback(tenant_id, turn_id, body)
    except UnknownTurn:
        text = await parts.collection.waiting_text(tenant_id, turn_id)
        if text is None:  # unknown, or stored in the meantime
            return await parts.learner.add_feedback(tenant_id, turn_id, body)
        if not await parts.collection.put_feedback(tenant_id, turn_id, body, user_text=text):
            raise SpoolFull(NOT_SPOOLED) from None
        return _accepted(SpooledTurn(turn_id=turn_id))


@router.get("/turns/{turn_id}", dependencies=[allow("administer")])
async def turn(tenant_id: TenantId, turn_id: str, parts: Shared) -> Turn:
    """A stored turn with its texts. The audit log has each request."""
    await parts.learner.start()
    found = await parts.learner.store.get_turn(tenant_id, turn_id)
    if found is None:
        raise UnknownTurn(f"{tenant_id!r} has no such turn")
    return found


def _prefers_async(prefer: Sequence[str] | None) -> bool:
    preferences = ",".join(prefer or ()).split(",")
    return RESPOND_ASYNC in (one.partition(";")[0].strip().lower() for one in preferences)


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


async def _spooled(parts: Parts, tenant_id: str, bodies: Sequence[TurnBody]) -> Response:
    """The answer after the commit of all usable turns. Raises SpoolFull."""
    drafts, turns = await call_in_executor(_drafts, parts, tenant_id, bodies)
    if not await parts.collection.put_turns(drafts):
        raise SpoolFull(NOT_SPOOLED)
    return _accepted(SpooledTurns(spooled=len(drafts), turns=turns), {"Preference-Applied": RESPOND_ASYNC})


def _accepted(body: BaseModel, headers: Mapping[str, str] | None = None) -> Response:
    text = body.model_dump_json(exclude_none=True)
    return Response(text, status_code=202, headers=headers, media_type="application/json")


def _drafts(
    parts: Parts, tenant_id: str, bodies: Sequence[TurnBody]
) -> tuple[list[TurnDraft], list[SpooledTurn]]:
    """The drafts of all usable turns, and the answer for each turn."""
    limits, sanitizer = parts.learner.settings.analysis, CharacterSanitizer()
    drafts: list[TurnDraft] = []
    turns: list[SpooledTurn] = []
    for body in bodies:
        given = {name: getattr(body, name) for name in TurnBody.model_fields}
        try:
            draft = draft_turn(tenant_id, limits=limits, sanitizer=sanitizer, **given)
        except InvalidInput as error:
            turns.append(SpooledTurn(turn_id=body.turn_id, problem=as_problem(error)))
        else:
            drafts.append(draft)
            turns.append(SpooledTurn(turn_id=draft.turn_id))
    return drafts, turns


async def _stored(parts: Parts, tenant_id: str, body: TurnBody) -> StoredTurn:
    try:
        found = await _collect(parts, tenant_id, body, turn_id=body.turn_id)
    except KarenLearnerError as error:
        return StoredTurn(turn_id=body.turn_id, problem=as_problem(error))
    return StoredTurn(turn_id=found.turn_id, intent=found.intent_detected, sentiment=found.sentiment_detected)
