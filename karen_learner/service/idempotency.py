"""Idempotency keys: a repeated request that changes something gets the first answer, and changes nothing.

As in the draft of the IETF *The Idempotency-Key HTTP Header Field*. Answers are kept for one to two days,
with the caller and the tenant. A lease in the store excludes a second request while the first one runs, in
all processes. If the process of the first one ends, the lease is free, and a repetition runs again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import Message, Send

from karen_learner.contracts import MemoryStore
from karen_learner.errors import KarenLearnerError
from karen_learner.memory.leases import owner_of
from karen_learner.records import Lease, utc_now

logger = logging.getLogger(__name__)

HEADER = "idempotency-key"
PREFIX = "answer:"
MAX_KEY_CHARS = 1_000
LEASE_TTL = timedelta(minutes=15)
LEASE_DIGITS = 3
"""Few leases, because their rows stay. Two keys may share one: then a request waits for another one."""
REPEATED = "idempotent-replayed"
KEPT_HEADERS = ("content-type", "location")


class KeyReused(KarenLearnerError):
    """The idempotency key belongs to another request."""

    http_status = 422


class RequestRuns(KarenLearnerError):
    """The first request with this idempotency key still runs."""

    http_status = 409


class Repeated(Exception):
    """A repeated request, with the answer to the first one."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        headers = {**answer["headers"], REPEATED: "true"}
        self.response = Response(answer["body"], status_code=answer["status"], headers=headers)


@dataclass
class KeyedRequest:
    """A request with an idempotency key, which runs for the first time."""

    store: MemoryStore
    tenant_id: str
    key: str
    digest: str
    lease: Lease
    is_over: bool = False

    async def release(self) -> None:
        """Let a repetition run, if the answer is not kept. Idempotent."""
        if self.is_over:
            return
        self.is_over = True
        try:
            await self.store.release_lease(self.lease)
        except KarenLearnerError as error:
            logger.warning("the lease of a keyed request is not released, and expires: %s", error)

    async def save(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Keep the answer, unless it is an error that a repetition may not get."""
        try:
            if status < 500 and status not in (401, 403, 408, 409, 429):
                now = utc_now()
                kept = {name: value for name, value in headers.items() if name in KEPT_HEADERS}
                answer = {
                    "digest": self.digest, "status": status, "headers": kept, "body": body.decode()
                }  # fmt: skip
                await self.store.set_service_state(self.tenant_id, f"{_day(now)}{self.key}", answer)
                last = _day(now - timedelta(days=1))
                await self.store.prune_service_states(self.tenant_id, first=PREFIX, last=last)
        except KarenLearnerError as error:  # the change is made: its answer is sent
            logger.warning("an answer is not kept for repetitions: %s", error)
        finally:
            await self.release()


class Answer:
    """Holds back the messages of an answer until it is complete and kept."""

    def __init__(self, keyed: KeyedRequest, send: Send) -> None:
        self._keyed = keyed
        self._send = send
        self._messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self._messages.append(message)
        if message["type"] == "http.response.start" or message.get("more_body"):
            return
        start = self._messages[0]
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]
        }
        body = b"".join(one.get("body", b"") for one in self._messages[1:])
        await self._keyed.save(start["status"], headers, body)
        for one in self._messages:
            await self._send(one)


async def begin(
    request: Request, store: MemoryStore, *, caller_id: str, tenant_id: str
) -> KeyedRequest | None:
    """The keyed request; None for a request without a key.

    Raises Repeated with the kept answer, KeyReused, RequestRuns, and StoreError.
    """
    given = request.headers.get(HEADER)
    if given is None or request.method == "GET":
        return None
    if not 0 < len(given) <= MAX_KEY_CHARS:
        raise KeyReused(f"an idempotency key has 1 to {MAX_KEY_CHARS:,} characters")
    key = _digest(caller_id.encode(), given.encode("utf-8", "surrogatepass"))
    scope = request.scope
    path = scope.get("raw_path") or scope["path"].encode()
    digest = _digest(request.method.encode(), path, scope["query_string"], await request.body())
    await _require_new(store, tenant_id, key, digest)
    lease = await store.acquire_lease(
        tenant_id, owner_of(os.getpid()), name=f"{PREFIX}{key[:LEASE_DIGITS]}", ttl=LEASE_TTL
    )
    if lease is None:
        raise RequestRuns("the first request with this idempotency key still runs: repeat it later")
    try:
        await _require_new(store, tenant_id, key, digest)  # the first one may have ended just now
    except BaseException:
        await store.release_lease(lease)
        raise
    return KeyedRequest(store, tenant_id, key, digest, lease)


async def _require_new(store: MemoryStore, tenant_id: str, key: str, digest: str) -> None:
    now = utc_now()
    for at in (now, now - timedelta(days=1)):
        answer = await store.service_state(tenant_id, f"{_day(at)}{key}")
        if answer is None:
            continue
        if answer["digest"] != digest:
            raise KeyReused("this idempotency key belongs to another request: use a new one")
        raise Repeated(answer)


def _day(at: datetime) -> str:
    return f"{PREFIX}{at:%Y%m%d}:"


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()
