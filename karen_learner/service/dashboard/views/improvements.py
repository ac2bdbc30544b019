"""Improvements and reports: the performance of components, recommendations with evidence, stored reports."""

from __future__ import annotations

from typing import get_args

from starlette.responses import Response

from karen_learner.errors import InvalidInput
from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig
from karen_learner.records.improvement import Priority
from karen_learner.records.period_reports import ReportFormat, ReportPeriod
from karen_learner.reports.rendering import page_policy
from karen_learner.service.dashboard.frame import View, Viewed
from karen_learner.service.dashboard.pages import HEADERS, form_of, link, page_router, seen_other
from karen_learner.service.dashboard.sessions import viewer
from karen_learner.service.dashboard.views.tickets import tracker_of

router = page_router()

SHOWN = 50
PRIORITIES = get_args(Priority)
PERIODS: dict[str, ReportPeriod] = {one: one for one in get_args(ReportPeriod)}


@router.get("/tenants/{tenant_id}/improvements", dependencies=[viewer("read")])
async def improvements(view: Viewed) -> Response:
    engine, tracker = engine_of(view), tracker_of(view)
    found = await engine.recommendations(limit=SHOWN)
    return await view.page(
        "improvements.html",
        "Improvements and reports",
        tickets=await tracker.tickets(limit=SHOWN),
        measured={one.ticket_id: one for one in await tracker.impacts()},
        roi=await tracker.calculate_cumulative_roi(),
        currency=view.learner.settings.reports.currency,
        analysis=await engine.analyze_weekly_performance(),
        recommendations=sorted(found, key=lambda one: PRIORITIES.index(one.priority)),
        reports=await view.learner.reports.reports(view.tenant_id, limit=SHOWN),
        periods=PERIODS,
    )


@router.post("/tenants/{tenant_id}/improvements/recommendations", dependencies=[viewer("operate")])
async def recommend(view: Viewed) -> Response:
    """Analyse the last week, and store the recommendations that follow."""
    engine = engine_of(view)
    await engine.generate_recommendations(await engine.analyze_weekly_performance())
    return seen_other(link(view.tenant_id, "improvements"))


@router.post("/tenants/{tenant_id}/improvements/reports", dependencies=[viewer("operate")])
async def make_report(view: Viewed) -> Response:
    """Store a report of the last period."""
    period = PERIODS.get((await form_of(view.request)).get("period", ""))
    if period is None:
        raise InvalidInput("choose the period of the report")
    await view.learner.report(view.tenant_id, period=period)
    return seen_other(link(view.tenant_id, "improvements"))


@router.get("/tenants/{tenant_id}/improvements/reports/{report_id}", dependencies=[viewer("read")])
async def report(view: Viewed, report_id: str, format: ReportFormat = "html") -> Response:
    """A report. As a page it has a policy of its own: it contains its style, and no script."""
    view.request.state.is_audited = True
    content = await view.learner.reports.content(view.tenant_id, report_id, format)
    if format == "html":
        policy = f"{page_policy()}; frame-ancestors 'none'; sandbox"
        headers = {**HEADERS, "Content-Security-Policy": policy}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="report.{format}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


def engine_of(view: View) -> AIAnalysisEngine:
    """The analyses of the tenant of a page."""
    return AIAnalysisEngine(AnalysisConfig(tenant_id=view.tenant_id), learner=view.learner)
