"""The frame of all pages: navigation, and the strip with health, serving version, alerts and forecast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from karen_learner.improvement.grades import Limits
from karen_learner.improvement.health import UNHEALTHY, health_of
from karen_learner.learner import AutonomousLearner
from karen_learner.monitoring.readings.over_time import QualityPoint
from karen_learner.monitoring.trends import Forecast, forecast, theil_sen
from karen_learner.records import Risk, TenantStatus, utc_now
from karen_learner.records.improvement import HealthStatus, SystemHealth
from karen_learner.records.incidents import Incident, RemedyPause
from karen_learner.records.readings import Reading
from karen_learner.service.access import Caller
from karen_learner.service.dashboard.pages import PREFIX, is_fragment, link, page, page_router, seen_other
from karen_learner.service.dashboard.sessions import viewer
from karen_learner.service.dashboard.state import DashboardState, Measured, Shown
from karen_learner.service.parts import Parts, Shared, TenantId

router = page_router()

DAY = timedelta(days=1)
MAX_FORECAST_DAYS = 365.0


@dataclass(frozen=True)
class Strip:
    """The state of a tenant in a line. `alarms` are the readings with an alarm of their own test."""

    status: TenantStatus
    health: SystemHealth | None
    reasons: tuple[str, ...]
    incidents: tuple[Incident, ...]
    alarms: tuple[Reading, ...]
    estimate: Reading | None
    limit: float
    forecast: Forecast | None
    risk: Risk | None

    @property
    def waiting(self) -> int:
        """Incidents that wait for people."""
        return sum(one.state == "escalated" and one.acknowledged is None for one in self.incidents)


async def strip_of(view: View) -> Strip:
    """The strip of a tenant. Raises UnknownTenant."""
    learner, tenant_id = view.learner, view.tenant_id
    status = await learner.status(tenant_id)
    measured = await view.state.measured(tenant_id)
    unended = await learner.store.unended_incidents()
    incidents = tuple(one for one in unended if view.may_see(one))
    decided = await learner.store.last_decision(tenant_id)
    verdict = None if decided is None or decided.result is None else decided.result.verdict
    alarms = tuple(one for one in measured.readings.values() if one.alarm)
    health = health_of(
        tenant_id,
        measured.readings,
        incidents=unended,
        problems=status.health.problems,
        limits=Limits(),
        now=utc_now(),
    )
    limit = learner.settings.thresholds.intent_accuracy
    return Strip(
        status=status,
        health=health.system_health,
        reasons=_reasons(health),
        incidents=incidents,
        alarms=alarms,
        estimate=measured.readings.get("estimated_accuracy"),
        limit=limit,
        forecast=forecast_of(measured, limit),
        risk=None if verdict is None else verdict.risk,
    )


def _reasons(health: HealthStatus) -> tuple[str, ...]:
    """The reasons of an unhealthy state; none of a good one."""
    worst = health.system_health
    parts = health.components.values() if worst in UNHEALTHY else ()
    return tuple(reason for part in parts if part.system_health == worst for reason in part.reasons)


def forecast_of(measured: Measured, limit: float) -> Forecast | None:
    """The days until the estimated accuracy falls below a limit; None if its trend is not certain."""
    known: list[tuple[QualityPoint, float]] = [
        (one, one.estimate) for one in measured.series if one.estimate is not None
    ]
    if not known:
        return None
    start = known[0][0].end
    trend = theil_sen([(one.end - start) / DAY for one, _ in known], [value for _, value in known])
    if trend is None or trend.days < 1.0:  # the slope of a few hours says nothing about weeks
        return None
    found = forecast(trend, limit, falling=True)
    return None if found is None or found.days > MAX_FORECAST_DAYS else found


@dataclass(frozen=True)
class View:
    """The parts of a page of one tenant. `seen` is the snapshot before its values are read."""

    request: Request
    parts: Parts
    state: DashboardState
    tenant_id: str
    seen: str

    @property
    def learner(self) -> AutonomousLearner:
        return self.parts.learner

    @property
    def caller(self) -> Caller:
        found: Caller = self.request.state.caller
        return found

    @property
    def seen_tenants(self) -> tuple[str | None, ...]:
        """This tenant, and None (the home) if the caller is for all tenants."""
        return (self.tenant_id, None) if self.caller.may("read") else (self.tenant_id,)

    def may_see(self, one: Incident | RemedyPause) -> bool:
        """Whether an incident or a pause is of this tenant, or of the home and the caller may read it."""
        return one.tenant_id in self.seen_tenants

    def may_show_texts(self) -> bool:
        """Whether texts of users are shown. If so, the request is audited."""
        allowed = self.caller.may("operate", self.tenant_id)
        self.request.state.is_audited |= allowed
        return allowed

    async def page(self, template: str, title: str, /, **values: Any) -> Response:
        """A page in the frame. A request for a part of a page gets the page without the frame's strip."""
        return page(
            self.request,
            template,
            title=title,
            seen=self.seen,
            tenant_id=self.tenant_id,
            tenants=self.caller.visible(await self.learner.tenants()),
            strip=None if is_fragment(self.request) else await self.strip(),
            **values,
        )

    async def strip(self) -> Strip:
        return await strip_of(self)


async def _view(request: Request, parts: Shared, state: Shown, tenant_id: TenantId) -> View:
    is_page = request.method == "GET" and not is_fragment(request)
    seen = await state.changes.seen(tenant_id) if is_page else ""
    return View(request, parts, state, tenant_id, seen)


Viewed = Annotated[View, Depends(_view)]


@router.get("")
async def home(request: Request, parts: Shared, caller: Annotated[Caller, viewer("read")]) -> Response:
    """The only tenant, or the list of tenants."""
    tenants = caller.visible(await parts.learner.tenants())
    if len(tenants) == 1:
        return seen_other(link(tenants[0], "quality"))
    return page(request, "tenants.html", title="Tenants", tenants=tenants)


@router.get("/tenants/{tenant_id}")
async def tenant(tenant_id: TenantId) -> Response:
    return seen_other(link(tenant_id, "quality"))


@router.get("/tenants/{tenant_id}/strip", dependencies=[viewer("read")])
async def strip(view: Viewed) -> Response:
    """The strip alone."""
    return page(view.request, "strip.html", strip=await view.strip(), tenant_id=view.tenant_id)


@router.get("/{rest:path}", dependencies=[viewer("read")])
async def unknown(request: Request) -> Response:
    return page(
        request,
        "error.html",
        status=404,
        title="Not found",
        detail=f"There is no page here. {PREFIX} is the first one.",
    )
