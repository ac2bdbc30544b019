"""Parts that the routes share, and the dependencies that hand them over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer

from karen_learner.contracts import AccessStore
from karen_learner.errors import KarenLearnerError, TooManyRequests, Unauthenticated
from karen_learner.learner import AutonomousLearner
from karen_learner.monitoring.performance import PerformanceMonitor
from karen_learner.orchestrator.collection import SpooledCollection
from karen_learner.records.access import Action
from karen_learner.records.base import MAX_ID_CHARS
from karen_learner.service.access import Access, Caller
from karen_learner.service.feed import EventFeed
from karen_learner.service.idempotency import begin
from karen_learner.service.jobs import Jobs
from karen_learner.service.metrics import ServiceMetrics
from karen_learner.service.paths import relative_to_home, reveal_slashes
from karen_learner.settings import ServiceSettings

T = TypeVar("T")

MAX_MONITORS = 1_000
DRAIN_AT_STOP_S = 0.5
"""Seconds for which spooled turns are stored after the signal to stop. The next start stores the others."""
UNAUTHENTICATED = "address "

TenantId = Annotated[str, Path(min_length=1, max_length=MAX_ID_CHARS, description="Id of the tenant.")]
bearer = HTTPBearer(auto_error=False, description="An API key of `karen-learner keys create`.")


@dataclass
class Parts:
    """Objects of one application. `stopping` is set when the service stops: streams end then."""

    learner: AutonomousLearner
    settings: ServiceSettings
    access_store: AccessStore
    access: Access
    metrics: ServiceMetrics
    jobs: Jobs
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0
    stream_check_s: float = 10.0
    """Seconds after which the caller of a stream without events is checked again."""
    _monitors: dict[str, PerformanceMonitor] = field(default_factory=dict)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    feed: EventFeed = field(init=False)
    collection: SpooledCollection = field(init=False)
    """Turns that are acknowledged before their analysis. The commit reaches the disk."""

    def __post_init__(self) -> None:
        home = self.learner.layout.home
        self.collection = SpooledCollection(self.learner, self.learner.layout.spool, sync=True)
        self.feed = EventFeed(self.learner.events, self.stopping, home=home)

    async def monitor(self, tenant_id: str) -> PerformanceMonitor:
        """The started monitor of a tenant. Beyond MAX_MONITORS the one that was made first stops."""
        async with self._starting:
            if tenant_id not in self._monitors:
                made = PerformanceMonitor(self.learner, tenant_id=tenant_id)
                await made.start()
                if len(self._monitors) >= MAX_MONITORS:
                    await self._monitors.pop(next(iter(self._monitors))).stop()
                self._monitors[tenant_id] = made
            return self._monitors[tenant_id]

    def shown(self, value: T) -> T:
        """A record, or several, as a client may see it: paths of files are relative to the home."""
        return relative_to_home(value, self.learner.layout.home)

    async def start(self) -> None:
        """Start the learner, and store the spooled turns of ended processes. Raises StoreError."""
        await self.learner.start()
        if self.learner.store.read_only is None:
            await self.collection.start()

    async def close(self) -> None:
        """Stop the monitors and close the learner. Running cycles are journalled; spooled turns wait."""
        self.stopping.set()
        for monitor in self._monitors.values():
            await monitor.stop()
        await self.collection.close(DRAIN_AT_STOP_S)
        await self.learner.close()
        await self.jobs.wait()


def parts_of(request: Request) -> Parts:
    """The parts of the application of a request."""
    return cast(Parts, request.app.state.parts)


async def _shared(request: Request) -> Parts:
    """A coroutine, because FastAPI runs plain functions in a thread."""
    return parts_of(request)


Shared = Annotated[Parts, Depends(_shared)]


async def is_admitted(finding: Awaitable[Caller]) -> bool:
    """Whether the caller of an open stream is still found. Its key may be revoked, or its session over."""
    try:
        await finding
    except KarenLearnerError:  # also of the store: the client connects again
        return False
    return True


async def open_stream(request: Request, parts: Shared) -> AsyncIterator[None]:
    """Count a stream until it ends. Raises TooManyRequests, which is too late once a stream has answered."""
    if parts.streams >= parts.settings.max_streams:
        raise TooManyRequests(f"{parts.settings.max_streams:,} streams are open: close one")
    request.state.is_stream = True
    parts.streams += 1
    parts.metrics.stream_opened()
    try:
        yield
    finally:
        parts.streams -= 1
        parts.metrics.stream_closed()


def allow(action: Action, *, every_tenant: bool = True) -> Any:
    """The dependency that finds the caller and requires a right. Raises the errors of `Access`.

    The tenant is the path parameter `tenant_id`. Without one, the key must be for the whole store, unless
    `every_tenant` is False. Requests for `operate` and `administer` are audited, and may have an idempotency
    key.
    """
    is_audited = action in ("operate", "administer")

    async def caller(request: Request, _key: Annotated[Any, Security(bearer)] = None) -> Caller:
        parts, address = parts_of(request), address_of(request)
        try:
            found = await parts.access.caller(address, request.headers)
        except Unauthenticated:
            parts.access.take(f"{UNAUTHENTICATED}{address}")
            raise
        admit(request, parts, found, action, every_tenant=every_tenant, is_audited=is_audited)
        if is_audited:
            store, tenant_id = parts.learner.store, request.state.tenant_id or ""
            request.state.keyed = await begin(request, store, caller_id=found.caller_id, tenant_id=tenant_id)
        return found

    return Depends(caller)


def address_of(request: Request) -> str | None:
    """The address of the client."""
    return request.client.host if request.client is not None else None


def admit(
    request: Request, parts: Parts, found: Caller, action: Action, *, every_tenant: bool, is_audited: bool
) -> Caller:
    """Count a request of a caller, name it in the audit log, and require a right. See `allow`."""
    parts.access.take(found.caller_id)
    reveal_slashes(request.scope)
    tenant_id = request.path_params.get("tenant_id")
    request.state.caller_id = found.caller_id
    request.state.is_audited = is_audited
    request.state.tenant_id = tenant_id
    if tenant_id is not None or every_tenant:
        found.require(action, tenant_id)
    return found
