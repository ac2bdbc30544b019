"""The ASGI application of a learner."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version
from importlib.util import find_spec
from types import FrameType
from typing import cast

from fastapi import FastAPI
from fastapi.routing import APIRoute

from karen_learner.contracts import AccessStore
from karen_learner.errors import StoreError
from karen_learner.lazy_imports import lazily
from karen_learner.learner import AutonomousLearner
from karen_learner.records import utc_now
from karen_learner.service.access import Access
from karen_learner.service.dashboard import add_dashboard
from karen_learner.service.jobs import Jobs
from karen_learner.service.metrics import ServiceMetrics
from karen_learner.service.middleware import BodyLimits, Recorder
from karen_learner.service.parts import Parts
from karen_learner.service.paths import EncodedSlashes
from karen_learner.service.problems import Problem, add_handlers
from karen_learner.service.routes import (
    conversations,
    data,
    improvement,
    incidents,
    learning,
    operations,
    performance,
    reports,
    tickets,
)

SUBJECTS = (operations, conversations, learning, data, performance, incidents, improvement, reports, tickets)

DAY_S = 86_400.0

DESCRIPTION = """
Language understanding that learns from its own conversations.

Send an API key as `Authorization: Bearer KEY`. Without any key, only programs of this machine are answered.
Errors are problem details (RFC 9457): `type` is stable, `detail` is for people.
"""


def create_app(learner: AutonomousLearner) -> FastAPI:
    """The application. It starts the learner, and closes it when it stops.

    Its settings are `[service]` of the learner's settings. API keys are in the learner's store.
    """
    settings = learner.settings.service
    store = cast(AccessStore, learner.store)
    metrics = ServiceMetrics(learner.events, with_tenants=settings.tenant_metrics)
    access = Access(store, requests_per_s=settings.requests_per_s)
    parts = Parts(
        learner=learner,
        settings=settings,
        access_store=store,
        access=access,
        metrics=metrics,
        jobs=Jobs(learner.store),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.start()
        end = learner.events.subscribe(metrics.on_event)
        pruning = None
        if learner.store.read_only is None:
            pruning = asyncio.create_task(_prune_audit(store, days=settings.audit_retention_days))
        try:
            with _set_at_stop_signal(parts.stopping):
                yield
        finally:
            end()
            if pruning is not None:
                pruning.cancel()
                await asyncio.wait({pruning})
            await parts.close()

    app = FastAPI(
        title="karen_learner",
        version=version("karen-learner"),
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        responses={"default": {"model": Problem, "description": "An error, as problem details."}},
        docs_url=None,  # its page loads scripts of another host
        redoc_url=None,
    )
    app.state.parts = parts
    add_handlers(app)
    for subject in SUBJECTS:
        app.include_router(subject.router)
    add_dashboard(app)
    app.add_middleware(BodyLimits, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s)
    app.add_middleware(Recorder, metrics=metrics, store=store)
    app.add_middleware(EncodedSlashes)
    if find_spec("opentelemetry") is not None:  # the extra `tracing`
        app.add_middleware(lazily("karen_learner.service.tracing", "Tracing"))
    return app


@contextmanager
def _set_at_stop_signal(stopping: asyncio.Event) -> Iterator[None]:
    """Set the event at SIGINT and SIGTERM, before the server handles them.

    Streams of events end then. The server would wait for their clients.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    replaced = [number for number, handler in handlers.items() if callable(handler)]
    for number in replaced:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, handlers[number])


def _operation_id(route: APIRoute) -> str:
    return route.name


async def _prune_audit(store: AccessStore, *, days: float, every_s: float = DAY_S) -> None:
    """Remove the old entries of the audit log now and each day, until the task is cancelled."""
    while True:
        with suppress(StoreError):  # a full disk: the service still answers
            await store.prune_audit(before=utc_now() - timedelta(days=days))
        await asyncio.sleep(every_s)
