"""Work around each request: limits of the body, headers, metrics, and the audit log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from karen_learner.contracts import AccessStore
from karen_learner.errors import KarenLearnerError
from karen_learner.records.access import AuditEntry
from karen_learner.service.idempotency import Answer
from karen_learner.service.metrics import ServiceMetrics
from karen_learner.service.problems import problem_of, problem_response

logger = logging.getLogger(__name__)

HEADERS: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
FORM, FORMS_BELOW = "application/x-www-form-urlencoded", "/dashboard/"
"""Forms are accepted from pages only: a page of another site can send a form without a preflight request."""
METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class BodyTooLarge(Exception):
    """The body is larger than the limit."""


class BodyTooSlow(Exception):
    """The body did not arrive in time."""


class BodyLimits:
    """Refuses bodies that are no JSON, too large, or too slow."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in METHODS_WITH_BODY:
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await problem_response(*refusal)(scope, receive, send)
            return
        try:
            body = await self._read(receive)
        except BodyTooLarge:
            await problem_response(*self._too_large())(scope, receive, send)
        except BodyTooSlow:
            detail = f"the body did not arrive within {self._timeout_s:g} s"
            await problem_response("RequestTimeout", 408, detail)(scope, receive, send)
        else:
            if body is not None:
                await self._app(scope, _replayed(body, receive), send)

    def _refusal(self, path: str, headers: Mapping[str, str]) -> tuple[str, int, str] | None:
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > self._max_bytes:
            return self._too_large()
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = length != "0" or "transfer-encoding" in headers
        is_form = media_type == FORM and path.startswith(FORMS_BELOW)
        if has_body and media_type != "application/json" and not is_form:
            return "UnsupportedMediaType", 415, "send the body as JSON, with Content-Type: application/json"
        return None

    def _too_large(self) -> tuple[str, int, str]:
        return "BodyTooLarge", 413, f"a body has at most {self._max_bytes:,} bytes: send several requests"

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body; None if the client has gone."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._max_bytes:
                        raise BodyTooLarge
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise BodyTooSlow from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body which was read, then the messages of the client."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


class Recorder:
    """Measures each request, adds headers, turns unexpected errors into problems, and writes the audit log.

    A request is audited if `access.allow` marked it so in the state of its scope.
    """

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics, store: AccessStore) -> None:
        self._app = app
        self._metrics = metrics
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        scope.setdefault("state", {})

        answer: Send = send

        async def with_headers(message: Message) -> None:
            nonlocal status, answer
            if message["type"] == "http.response.start":
                status = message["status"]
                await self._audit(scope, status)  # before the answer, so that no answer is without its entry
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *_missing_headers(present)]
                if (keyed := scope["state"].get("keyed")) is not None:
                    answer = Answer(keyed, send)
            await answer(message)

        try:
            await self._app(scope, receive, with_headers)
        except Exception as error:  # each request gets an answer
            if status:
                raise
            await problem_of(error)(scope, receive, with_headers)
        finally:
            if (keyed := scope["state"].get("keyed")) is not None:
                await keyed.release()
            if not scope["state"].get("is_stream"):
                self._metrics.observe(scope["method"], _route(scope), status, time.perf_counter() - started)

    async def _audit(self, scope: Scope, status: int) -> None:
        state: dict[str, Any] = scope["state"]
        if not state.get("is_audited"):
            return
        entry = AuditEntry(
            caller=state["caller_id"],
            tenant_id=state.get("tenant_id"),
            request=f"{scope['method']} {_route(scope)}",
            status=status,
        )
        try:
            await self._store.add_audit([entry])
        except KarenLearnerError:
            logger.exception("the audit log cannot be written: %s of %s", entry.request, entry.caller)


def _route(scope: Scope) -> str | None:
    """The template of the path, such as `/v1/tenants/{tenant_id}`."""
    return getattr(scope.get("route"), "path", None)


def _missing_headers(present: set[bytes]) -> list[tuple[bytes, bytes]]:
    named = ((name.encode(), value.encode()) for name, value in HEADERS.items())
    return [(name, value) for name, value in named if name not in present]


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
