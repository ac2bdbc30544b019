"""OpenTelemetry spans of requests. Only this module imports OpenTelemetry (the extra `tracing`).

A span has the method, the route and the status code, with the names of the semantic conventions for HTTP. It
has no tenant, no path and no text. The span of the client (header `traceparent`) is its parent.
"""

from __future__ import annotations

from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = "karen_learner.service"
SERVER_ERROR = 500


class Tracing:
    """A span around each request. Without `provider`, the one that the host has set."""

    def __init__(self, app: ASGIApp, *, provider: TracerProvider | None = None) -> None:
        self._app = app
        self._tracer = get_tracer(NAME, tracer_provider=provider)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            method,
            context=extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
            record_exception=False,  # its message may quote a text
        ) as span:

            async def traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= SERVER_ERROR:
                        span.set_status(Status(StatusCode.ERROR))
                    route = getattr(scope.get("route"), "path", None)
                    if route is not None:
                        span.update_name(f"{method} {route}")
                        span.set_attribute("http.route", route)
                await send(message)

            await self._app(scope, receive, traced)
