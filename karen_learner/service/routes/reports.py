"""Reports of a tenant: their list, their content by id, and new ones."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from karen_learner.records.period_reports import (
    PeriodReport,
    ReportFormat,
    ReportKind,
    ReportMetadata,
    ReportPeriod,
    StoredReport,
)
from karen_learner.reports.rendering import page_policy
from karen_learner.service.large_bodies import api_router
from karen_learner.service.parts import Shared, TenantId, allow

router = api_router(prefix="/v1/tenants/{tenant_id}/reports", tags=["reports"])

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
}


FILES: dict[str, dict[str, str]] = {
    media_type.partition(";")[0]: {} for media_type in MEDIA_TYPES.values() if "json" not in media_type
}


class ReportBody(BaseModel):
    """A wanted report. Missing values are those of the settings `[reports]`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"period": "weekly"}]})

    period: Literal["weekly", "monthly", "quarterly"] = "weekly"
    kind: ReportKind | None = None
    formats: list[ReportFormat] | None = None
    fresh: bool = False


class ListedReport(ReportMetadata):
    """A stored report. Formats without a file are rendered at a request."""

    formats: tuple[ReportFormat, ...]
    archived: bool


class ListedReports(BaseModel):
    """Reports, newest first, and the number of damaged ones that were set aside."""

    reports: list[ListedReport]
    damaged: int


@router.get("", dependencies=[allow("read")])
async def period_reports(
    tenant_id: TenantId, parts: Shared, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> ListedReports:
    """The newest reports of the tenant."""
    await parts.learner.status(tenant_id)  # raises UnknownTenant
    found = await parts.learner.reports.reports(tenant_id, limit=limit)
    return ListedReports(reports=[_listed(one) for one in found.reports], damaged=len(found.damaged))


@router.post("", status_code=201, dependencies=[allow("operate")])
async def make_period_report(tenant_id: TenantId, body: ReportBody, parts: Shared) -> ListedReport:
    """Make a report of the last week, month or quarter."""
    period: ReportPeriod = body.period
    made = await parts.learner.report(
        tenant_id, period=period, kind=body.kind, formats=body.formats, fresh=body.fresh
    )
    return _listed(made)


@router.get(
    "/{report_id}",
    dependencies=[allow("read")],
    response_class=Response,
    responses={200: {"model": PeriodReport, "content": FILES}},
)
async def period_report(
    tenant_id: TenantId, report_id: str, parts: Shared, request: Request, format: ReportFormat = "html"
) -> Response:
    """A report by its id, or by an unambiguous end of it. It is audited."""
    request.state.is_audited = True
    content = await parts.learner.reports.content(tenant_id, report_id, format)
    headers = {"Content-Disposition": f'{_disposition(format)}; filename="report.{format}"'}
    if format == "html":
        headers["Content-Security-Policy"] = f"{page_policy()}; frame-ancestors 'none'; sandbox"
    return Response(content, media_type=MEDIA_TYPES[format], headers=headers)


def _disposition(format: ReportFormat) -> str:
    return "inline" if format == "html" else "attachment"


def _listed(stored: StoredReport) -> ListedReport:
    """Without the folder: a path of the server."""
    return ListedReport(**stored.model_dump(exclude={"folder"}))
