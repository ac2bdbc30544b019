"""Review: one text at a time is labelled by a person. The queue's filter is in the address."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from itertools import islice
from typing import Any, get_args

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from karen_learner.errors import InvalidInput
from karen_learner.records import LabelledText
from karen_learner.records.reviews import ITEM_KINDS, Review, ReviewDecision, ReviewItem
from karen_learner.service.dashboard.frame import View, Viewed
from karen_learner.service.dashboard.pages import PREFIX, form_of, link, page_router, seen_other
from karen_learner.service.dashboard.sessions import COOKIE, viewer

router = page_router()

REVIEWER = "karen_reviewer"
"""Cookie that names a browser without a session, so that two of them do not share an item."""
TOKEN = re.compile(r"\w+|[^\w\s]")
MAX_TOKENS = 400
TRIES = 20
DECISIONS: dict[str, ReviewDecision] = {one: one for one in get_args(ReviewDecision)}


@dataclass(frozen=True)
class Token:
    """A word of a text, with the text before it, and its offsets in characters."""

    before: str
    word: str
    start: int
    end: int


@router.get("/tenants/{tenant_id}/review", dependencies=[viewer("operate")])
async def review(view: Viewed, kind: str = "", intent: str = "", item: str = "") -> Response:
    """The first open item of a filter, leased to this browser; with `item`, that one."""
    reviewer, new_cookie = _reviewer(view)
    desk, tenant_id = view.learner.review_desk, view.tenant_id
    status = await view.learner.status(tenant_id)
    queue = _filtered(await desk.items(tenant_id, reviewer), kind, intent)
    shown, lease = await _open(view, queue, reviewer, item)
    now = None if shown is None else await view.learner.analyze(tenant_id, shown.text)
    response = await view.page(
        "review.html",
        "Review",
        item=shown,
        draft=None if lease is None else lease.draft,
        tokens=[] if shown is None else tokens_of(shown.text),
        now=now,
        left=len(queue),
        labels={task: sorted(labels) for task, labels in status.labels.items()},
        kinds=ITEM_KINDS,
        kind=kind,
        intent=intent,
        undoable=await view.learner.store.last_review(tenant_id, reviewer) is not None,
    )
    if new_cookie is not None:
        response.set_cookie(REVIEWER, new_cookie, path=PREFIX, httponly=True, samesite="strict")
    return response


@router.post("/tenants/{tenant_id}/review", dependencies=[viewer("operate")])
async def decide(view: Viewed) -> Response:
    """Save, skip or ignore an item, or undo the last decision; then the next item."""
    fields = await form_of(view.request)
    reviewer, _ = _reviewer(view)
    desk = view.learner.review_desk
    back = {"kind": fields.get("kind", ""), "intent": fields.get("intent_filter", "")}
    if fields.get("decision") == "undo":
        again = await desk.undo(view.tenant_id, reviewer)
        return seen_other(link(view.tenant_id, "review", **back, item=again))
    decision = DECISIONS.get(fields.get("decision", ""))
    if decision is None:
        raise InvalidInput("choose to save, to skip or to ignore the text")
    item_id = fields.get("item", "")
    item = await desk.item(view.tenant_id, item_id)
    labels = labelled(item, fields) if item is not None and decision == "saved" else None
    if not await desk.decide(view.tenant_id, item_id, reviewer, decision, labels):
        raise InvalidInput("another person works on this text or has decided about it: open the next one")
    return seen_other(link(view.tenant_id, "review", **back))


@router.post("/tenants/{tenant_id}/review/draft", dependencies=[viewer("operate")])
async def save_draft(view: Viewed) -> Response:
    """Keep unfinished labels. The lease on the item is renewed."""
    fields = await form_of(view.request)
    reviewer, _ = _reviewer(view)
    desk = view.learner.review_desk
    item = await desk.item(view.tenant_id, fields.get("item", ""))
    if item is None:
        return JSONResponse({"saved": False}, status_code=404)
    given = labelled(item, fields)
    draft = {"intent": given.intent, "sentiment": given.sentiment, "entities": given.entity_rows}
    saved = await desk.save_draft(view.tenant_id, item.item_id, reviewer, draft)
    return JSONResponse({"saved": saved}, status_code=200 if saved else 409)


async def _open(
    view: View, queue: list[ReviewItem], reviewer: str, wanted: str
) -> tuple[ReviewItem | None, Review | None]:
    desk, tenant_id = view.learner.review_desk, view.tenant_id
    if wanted:
        item = await desk.item(tenant_id, wanted)
        lease = None if item is None else await desk.open(tenant_id, wanted, reviewer)
        if item is not None and lease is not None:
            return item, lease
    for item in islice(queue, TRIES):  # another reviewer may be faster
        lease = await desk.open(tenant_id, item.item_id, reviewer)
        if lease is not None:
            return item, lease
    return None, None


def _filtered(items: list[ReviewItem], kind: str, intent: str) -> list[ReviewItem]:
    return [
        one
        for one in items
        if kind in ("", one.kind)
        and intent in ("", one.intent, *(claim.label for claim in one.claims if claim.task == "intent"))
    ]


def labelled(item: ReviewItem, fields: dict[str, str]) -> LabelledText:
    """The labels of a form. Raises InvalidInput."""
    given: dict[str, Any] = {
        "text": item.text,
        "intent": fields.get("intent", "").strip() or None,
        "sentiment": fields.get("sentiment", "").strip() or None,
    }
    try:
        if fields.get("with_entities") == "yes":
            given["entities"] = json.loads(fields.get("entities") or "[]")
        return LabelledText.model_validate(given)
    except (ValidationError, ValueError, RecursionError):
        raise InvalidInput("the labels of the form are not valid") from None


def tokens_of(text: str) -> list[Token]:
    """The first words of a text, for the choice of spans."""
    found, end = [], 0
    for match in islice(TOKEN.finditer(text), MAX_TOKENS):
        found.append(Token(text[end : match.start()], match[0], match.start(), match.end()))
        end = match.end()
    return found


def _reviewer(view: View) -> tuple[str, str | None]:
    """A name of this browser, and a new cookie for one without a session."""
    cookies = view.request.cookies
    given, new = cookies.get(COOKIE) or cookies.get(REVIEWER), None
    if given is None:
        given = new = secrets.token_urlsafe(16)
    mark = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{view.caller.caller_id}/{mark}", new
