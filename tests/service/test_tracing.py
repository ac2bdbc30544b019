"""Each request has a span with its route and status, and without the words of users."""

from __future__ import annotations

import httpx
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from karen_learner.service.tracing import Tracing
from tests.conftest import ACME
from tests.service.conftest import BASE_URL

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_request_has_a_span(app: FastAPI, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def fail() -> None:
        raise RuntimeError("the words of a user")

    monkeypatch.setattr(app.state.parts.learner, "tenants", fail)
    transport = httpx.ASGITransport(Tracing(app, provider=provider), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        await client.get(f"/v1/tenants/{ACME}/labels", headers={"traceparent": PARENT})
        await client.get("/v1/tenants")
        await client.get("/unknown/<script>")
    of_labels, failed, unknown = exporter.get_finished_spans()
    assert of_labels.name == "GET /v1/tenants/{tenant_id}/labels"
    assert dict(of_labels.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/v1/tenants/{tenant_id}/labels",
    }
    assert of_labels.parent is not None
    assert f"{of_labels.parent.span_id:016x}" == PARENT.split("-")[2]
    assert failed.status.status_code.name == "ERROR"
    assert unknown.name == "GET"
    for span in (of_labels, failed, unknown):
        assert "words of a user" not in span.to_json()
        assert ACME not in span.to_json()
