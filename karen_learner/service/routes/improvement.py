"""The production log, analyses, evidence, recommendations and health of a tenant."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, cast
from weakref import WeakKeyDictionary

from cachetools import LRUCache
from fastapi import Query
from pydantic import AwareDatetime, BaseModel, FailFast, Field

from karen_learner import memory
from karen_learner.errors import InvalidInput, UnknownEntry
from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig, HealthMonitor
from karen_learner.improvement.samples import Span
from karen_learner.learner import AutonomousLearner
from karen_learner.records.decisions import Decision
from karen_learner.records.improvement import (
    AnalysisResults,
    HealthDashboard,
    HealthStatus,
    ImpactMetrics,
    Recommendation,
    RecommendationStatus,
    Support,
)
from karen_learner.service.bodies import MAX_ITEMS, Body, Id
from karen_learner.service.large_bodies import api_router, gather_in_steps
from karen_learner.service.parts import Parts, Shared, TenantId, allow
from karen_learner.service.problems import Problem, as_problem

router = api_router(prefix="/v1/tenants/{tenant_id}", tags=["improvement"])

Days = Annotated[float, Query(gt=0.0, le=400.0, description="Length of the period in days.")]
MAX_MONITORS = 1_000
_monitors: WeakKeyDictionary[AutonomousLearner, LRUCache[str, HealthMonitor]] = WeakKeyDictionary()
"""The monitors of each learner: a monitor reads each row once."""


_analysing: WeakKeyDictionary[AutonomousLearner, asyncio.Lock] = WeakKeyDictionary()


class DecisionsBody(Body):
    """Entries as in `improvement/decision.schema.json`."""

    decisions: Annotated[list[dict[str, Any]], FailFast(), Field(min_length=1, max_length=MAX_ITEMS)]


class LoggedDecision(BaseModel):
    """The key of a stored entry, or the problem of one that was not stored."""

    key: str | None = None
    problem: Problem | None = None


class LoggedDecisions(BaseModel):
    stored: int
    decisions: list[LoggedDecision]


class Erased(BaseModel):
    erased: int


class StatusBody(Body):
    status: RecommendationStatus
    details: Annotated[str, Field(max_length=1_000)] | None = None


def _engine(parts: Parts, tenant_id: str) -> AIAnalysisEngine:
    return AIAnalysisEngine(AnalysisConfig(tenant_id=tenant_id), learner=parts.learner)


def _monitor(parts: Parts, tenant_id: str) -> HealthMonitor:
    made = _monitors.setdefault(parts.learner, LRUCache(MAX_MONITORS))
    if tenant_id not in made:
        made[tenant_id] = HealthMonitor(config=AnalysisConfig(tenant_id=tenant_id), learner=parts.learner)
    return made[tenant_id]


@router.post("/decisions", status_code=201, dependencies=[allow("converse")])
async def log_decisions(tenant_id: TenantId, body: DecisionsBody, parts: Shared) -> LoggedDecisions:
    """Store entries of the production log. They are on disk when the answer comes.

    The same `entry_id` is the same entry: repeat a request whose answer was lost.
    """
    found = await gather_in_steps(_logged(parts, tenant_id, one) for one in body.decisions)
    return LoggedDecisions(stored=sum(one.problem is None for one in found), decisions=found)


async def _logged(parts: Parts, tenant_id: str, entry: dict[str, Any]) -> LoggedDecision:
    try:
        return LoggedDecision(key=await parts.learner.log_decision(tenant_id, entry))
    except InvalidInput as error:
        return LoggedDecision(problem=as_problem(error))


@router.get("/decisions/{key}", dependencies=[allow("administer")])
async def decision(tenant_id: TenantId, key: str, parts: Shared) -> Decision:
    """A stored entry with its contents. The audit log has each request."""
    await parts.learner.start()
    found = await cast("memory.SqlMemoryStore", parts.learner.store).decision(tenant_id, key)
    if found is None:
        raise UnknownEntry(f"the tenant {tenant_id!r} has no log entry {key!r:.80}, or it was erased")
    return Decision.model_validate_json(found)


@router.delete("/decisions", dependencies=[allow("administer")])
async def erase_decisions(
    tenant_id: TenantId,
    parts: Shared,
    user_id: Id | None = None,
    session_id: Id | None = None,
    subject: Id | None = None,
) -> Erased:
    """Remove the contents of the log entries of a user, a session or a subject."""
    erased = await parts.learner.erase_decisions(
        tenant_id, user_id=user_id, session_id=session_id, subject=subject
    )
    return Erased(erased=erased)


@router.get("/analysis", dependencies=[allow("read")])
async def analysis(tenant_id: TenantId, parts: Shared, days: Days = 7.0) -> AnalysisResults:
    """Performance by component, trends, alerts and health of the last days.

    Analyses of a learner run one after the other: each reads all turns of its period.
    """
    async with _analysing.setdefault(parts.learner, asyncio.Lock()):
        return await _engine(parts, tenant_id).analyze_weekly_performance(days)


@router.get("/evidence", dependencies=[allow("read")])
async def evidence(
    tenant_id: TenantId,
    parts: Shared,
    component: Id,
    start: AwareDatetime,
    end: AwareDatetime,
    metric: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
) -> Support:
    """The ids behind a metric of a period."""
    span = _span(start, end)
    return await _engine(parts, tenant_id).evidence(component, metric, span, limit=limit)


def _span(start: datetime, end: datetime) -> Span:
    if start >= end:
        raise InvalidInput("the end must be later than the start")
    return Span(start, start, end)


@router.post("/recommendations", dependencies=[allow("operate")])
async def recommend(tenant_id: TenantId, parts: Shared, days: Days = 7.0) -> list[Recommendation]:
    """Analyse the last days, and store what is recommended."""
    engine = _engine(parts, tenant_id)
    async with _analysing.setdefault(parts.learner, asyncio.Lock()):
        return await engine.generate_recommendations(await engine.analyze_weekly_performance(days))


@router.get("/recommendations", dependencies=[allow("read")])
async def recommendations(
    tenant_id: TenantId, parts: Shared, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> list[Recommendation]:
    """The stored recommendations, newest first."""
    return await _engine(parts, tenant_id).recommendations(limit=limit)


@router.post("/recommendations/{recommendation_id}/status", dependencies=[allow("operate")])
async def mark_recommendation(
    tenant_id: TenantId, recommendation_id: str, body: StatusBody, parts: Shared
) -> Recommendation:
    """Decide about a recommendation."""
    engine = _engine(parts, tenant_id)
    return await engine.mark_recommendation(recommendation_id, body.status, details=body.details)


@router.get("/recommendations/{recommendation_id}/impact", dependencies=[allow("read")])
async def recommendation_impact(tenant_id: TenantId, recommendation_id: str, parts: Shared) -> ImpactMetrics:
    """The metrics before and after the implementation of a recommendation. Not causal."""
    return await _engine(parts, tenant_id).track_implementation_impact(recommendation_id)


@router.get("/health", dependencies=[allow("read")])
async def health(tenant_id: TenantId, parts: Shared) -> HealthStatus:
    """The health by component, with reasons."""
    return await _monitor(parts, tenant_id).check_system_health()


@router.get("/health/dashboard", dependencies=[allow("read")])
async def health_dashboard(tenant_id: TenantId, parts: Shared) -> HealthDashboard:
    """The present health and its history."""
    return await _monitor(parts, tenant_id).generate_health_dashboard()
