"""Login: an API key opens a session of a browser. Its cookie is random, and stored as a digest.

A session ends at logout, after `SESSION_HOURS`, or when its key is revoked. Without any key, programs and
browsers of this machine need no login.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.responses import Response

from karen_learner.errors import Forbidden, Unauthenticated
from karen_learner.records import utc_now
from karen_learner.records.access import Action, Session
from karen_learner.service.access import Caller
from karen_learner.service.dashboard.pages import PREFIX, form_of, page, page_router, seen_other
from karen_learner.service.parts import Parts, Shared, address_of, admit

COOKIE = "karen_session"
SESSION_HOURS = 12.0

router = page_router()


def viewer(action: Action = "read") -> Any:
    """The dependency that finds the person at a browser, and requires a right for the tenant of the path.

    Requests that change something are audited, and those that need more than the right to read.
    """

    async def caller(request: Request, parts: Shared) -> Caller:
        is_audited = request.method != "GET" or action != "read"
        if request.method != "GET":
            require_same_origin(request)
        found = await find_caller(request, parts)
        request.state.caller = found
        return admit(request, parts, found, action, every_tenant=False, is_audited=is_audited)

    return Depends(caller)


async def find_caller(request: Request, parts: Parts) -> Caller:
    """The holder of the session, or a browser of this machine. Raises Unauthenticated."""
    cookie = request.cookies.get(COOKIE)
    if cookie is not None:
        session = await parts.access_store.session(digest_of(cookie))
        key = await parts.access.key(session.key_id) if session is not None else None
        if session is not None and key is not None and session.expires_at > utc_now():
            return Caller(key.key_id, key)
    return await parts.access.caller(address_of(request), _without_authorization(request))


def _without_authorization(request: Request) -> dict[str, str]:
    """The headers without a key: a page is for browsers, which send cookies."""
    return {name: value for name, value in request.headers.items() if name != "authorization"}


def digest_of(cookie: str) -> str:
    """The stored form of a cookie's value."""
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()


def require_same_origin(request: Request) -> None:
    """Raises Forbidden for a form that a page of another site sends (CSRF)."""
    if request.headers.get("sec-fetch-site") == "same-origin":
        return
    origin = request.headers.get("origin", "")
    if urlsplit(origin).netloc != request.headers.get("host") or not origin:
        raise Forbidden("this form was not sent by the dashboard: open the page again")


@router.get("/login")
async def login_page(request: Request, next: str = PREFIX) -> Response:
    return page(request, "login.html", next=_local(next), error=None)


@router.post("/login")
async def login(request: Request, parts: Shared) -> Response:
    """Open a session with an API key."""
    require_same_origin(request)
    address = address_of(request)
    fields = await form_of(request)
    target = _local(fields.get("next", PREFIX))
    try:
        given = fields.get("key", "").strip()
        found = await parts.access.caller(address, {"authorization": f"Bearer {given}"})
    except Unauthenticated as error:
        parts.access.take(f"address {address}")
        return page(request, "login.html", status=401, next=target, error=str(error))
    response = seen_other(target)
    if found.key is not None:
        await _open(request, response, parts, found.key.key_id)
    return response


async def _open(request: Request, response: Response, parts: Parts, key_id: str) -> None:
    cookie, now = secrets.token_urlsafe(32), utc_now()
    expires = now + timedelta(hours=SESSION_HOURS)
    await parts.access_store.add_session(
        Session(digest=digest_of(cookie), key_id=key_id, expires_at=expires), now=now
    )
    is_https = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=round(3600 * SESSION_HOURS),
        path=PREFIX,
        secure=is_https,
        httponly=True,
        samesite="strict",
    )
    request.state.caller_id, request.state.is_audited = key_id, True


@router.post("/logout")
async def logout(request: Request, parts: Shared) -> Response:
    """End the session of this browser."""
    require_same_origin(request)
    cookie = request.cookies.get(COOKIE)
    if cookie is not None:
        await parts.access_store.end_session(digest_of(cookie))
    response = seen_other(f"{PREFIX}/login")
    response.delete_cookie(COOKIE, path=PREFIX, httponly=True, samesite="strict")
    return response


def _local(address: str) -> str:
    """The address if it is a page of the dashboard, else its first page."""
    is_page = address == PREFIX or address.startswith(f"{PREFIX}/")
    return address if is_page and "\\" not in address and address.isprintable() else PREFIX
