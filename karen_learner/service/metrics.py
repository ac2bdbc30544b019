"""Metrics of the service for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from karen_learner.events import CycleFinished, Event, EventBus, FeedbackAdded, ModelRolledBack, TurnCollected

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper limits in seconds."""
OTHER = "other"


class ServiceMetrics:
    """Counts requests and events of this process. Tenants are labels only if `with_tenants`."""

    def __init__(self, events: EventBus, *, with_tenants: bool = False) -> None:
        self._registry = registry = CollectorRegistry()
        self._with_tenants = with_tenants
        names = ["tenant"] if with_tenants else []
        self._seconds = Histogram(
            "karen_http_request_seconds",
            "Seconds from a request to the end of its answer, without streams.",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._streams = Gauge("karen_http_streams", "Open streams of events.", registry=registry)
        self._turns = Counter("karen_turns", "Stored turns.", ["degraded", *names], registry=registry)
        self._feedback = Counter(
            "karen_feedback", "Later feedback.", ["correction", *names], registry=registry
        )
        self._cycles = Counter("karen_cycles", "Ended cycles.", ["status", *names], registry=registry)
        self._rollbacks = Counter("karen_rollbacks", "Rollbacks.", names, registry=registry)
        dropped = Gauge("karen_events_dropped", "Events that full queues dropped.", registry=registry)
        dropped.set_function(lambda: events.dropped)

    def observe(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count an answered request. `route` is a template without values; None if none matches."""
        known = method if method in {"GET", "POST", "PATCH", "DELETE"} else OTHER
        self._seconds.labels(known, route or OTHER, str(status)).observe(seconds)

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def on_event(self, event: Event) -> None:
        """Count an event of the learner."""
        tenant = [event.tenant_id] if self._with_tenants else []
        if isinstance(event, TurnCollected):
            self._turns.labels(str(event.degraded).lower(), *tenant).inc()
        elif isinstance(event, FeedbackAdded):
            self._feedback.labels(str(event.is_correction).lower(), *tenant).inc()
        elif isinstance(event, CycleFinished):
            self._cycles.labels(event.result.status, *tenant).inc()
        elif isinstance(event, ModelRolledBack):
            (self._rollbacks.labels(*tenant) if tenant else self._rollbacks).inc()

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
