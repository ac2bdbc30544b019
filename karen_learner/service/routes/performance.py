"""Outcomes, measures and alerts of a tenant's agents and models, and retraining on request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request

from karen_learner.errors import UnknownTenant
from karen_learner.records import Alert, PerformanceReport, SystemMetrics
from karen_learner.service.access import Caller
from karen_learner.service.bodies import (
    AccuracyBody,
    Retraining,
    RetrainingAnswer,
    RetrainingBody,
    RunBody,
    Score,
)
from karen_learner.service.large_bodies import api_router
from karen_learner.service.parts import Shared, TenantId, allow

router = api_router(tags=["performance"])
TENANT = "/v1/tenants/{tenant_id}"


@router.post(TENANT + "/outcomes/runs", status_code=202, dependencies=[allow("converse")])
async def record_run(tenant_id: TenantId, body: RunBody, parts: Shared) -> None:
    """Record a run of an agent."""
    monitor = await parts.monitor(tenant_id)
    monitor.record_agent_run(**dict(body))


@router.post(TENANT + "/outcomes/accuracy", status_code=202, dependencies=[allow("converse")])
async def record_accuracy(tenant_id: TenantId, body: AccuracyBody, parts: Shared) -> Score:
    """Record a prediction whose answer is known. Returns its score from 0 to 1."""
    monitor = await parts.monitor(tenant_id)
    return Score(score=monitor.record_accuracy(**dict(body)))


@router.get(TENANT + "/performance", dependencies=[allow("read")])
async def performance(tenant_id: TenantId, parts: Shared) -> SystemMetrics:
    """The measures of the last hour: accuracy, success, latency and cost."""
    return (await parts.monitor(tenant_id)).get_system_metrics()


@router.get(TENANT + "/performance/report", dependencies=[allow("read")])
async def report(tenant_id: TenantId, parts: Shared) -> PerformanceReport:
    """Measures, a health score with its parts, alerts, and recommendations."""
    return (await parts.monitor(tenant_id)).generate_report()


@router.get(TENANT + "/alerts", dependencies=[allow("read")])
async def alerts(
    tenant_id: TenantId, parts: Shared, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
) -> list[Alert]:
    """The newest alerts, newest first."""
    return list((await parts.monitor(tenant_id)).get_alerts(limit))


@router.post("/api/performance/trigger-retraining")
async def trigger_retraining(
    body: RetrainingBody,
    parts: Shared,
    request: Request,
    caller: Annotated[Caller, allow("operate", every_tenant=False)],
) -> RetrainingAnswer:
    """Retrain now, and answer when the cycle has ended. `status` is "success" or "unchanged"."""
    caller.require("operate", body.tenant_id)
    request.state.tenant_id = body.tenant_id
    if body.tenant_id not in await parts.learner.tenants():
        raise UnknownTenant(f"nothing is stored for the tenant {body.tenant_id!r}")
    monitor = await parts.monitor(body.tenant_id)
    found = await monitor.trigger_retraining(body.reason, body.force_full_retrain)
    return RetrainingAnswer(
        status="success" if found.success else "unchanged",
        message=found.reason,
        result=Retraining(**{name: getattr(found, name) for name in Retraining.model_fields}),
        timestamp=found.timestamp,
    )
