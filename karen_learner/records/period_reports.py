"""Reports of a period for people: the document, its metadata, and the list of stored reports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from karen_learner.records.base import Record, new_id, utc_now
from karen_learner.records.improvement import (
    AnalysisPeriod,
    AnalysisResults,
    Effect,
    ImpactReport,
    Priority,
    Recommendation,
    ROISummary,
    Support,
    SystemHealth,
    Ticket,
)

ReportKind = Literal["executive", "technical"]
"""`executive`: one screen for decisions. `technical`: the same, then all metrics with their evidence."""
ReportPeriod = Literal["weekly", "monthly", "quarterly", "custom"]
ReportFormat = Literal["html", "pdf", "json", "csv"]


class ReportMetadata(Record):
    """Origin of a report.

    `failed` has the error of each part that could not be made. `data_revision` identifies the stored data
    that the report was made from. `currency` is the unit of all amounts.
    """

    schema_version: Literal[1] = 1
    report_id: str = Field(default_factory=new_id)
    tenant_id: str
    kind: ReportKind
    period: ReportPeriod
    analysis_period: AnalysisPeriod
    created_at: datetime = Field(default_factory=utc_now)
    data_revision: str | None = None
    currency: str = ""
    notes: tuple[str, ...] = ()
    failed: Mapping[str, str] = Field(default_factory=dict)


class Change(Record):
    """A shown change of a metric, with a 95 % interval. `causal`: measured against a holdback.

    `cause` names the change that was made, `effect` is its effect over `measured`; None for a trend.
    """

    title: str
    cause: str | None = None
    metric: str
    before: float | None
    after: float | None
    change: float | None
    low: float | None
    high: float | None
    causal: bool
    evidence: Support
    effect: Effect | None = None
    measured: AnalysisPeriod | None = None


class CostItem(Record):
    """A cost of the period: an amount of `unit`, such as the currency, seconds or tokens."""

    name: str
    amount: float
    unit: str


class OpenDecision(Record):
    """A question that people decide. `source` is the kind of the record with the id `source_id`."""

    title: str
    reason: str
    priority: Priority
    source: Literal["recommendation", "alert", "ticket"]
    source_id: str | None


class PeriodReport(Record):
    """The document of a report. All formats are rendered from it."""

    report_metadata: ReportMetadata
    system_health: SystemHealth | None
    headline: str
    better: tuple[Change, ...]
    worse: tuple[Change, ...]
    roi_estimate: ROISummary | None
    costs: tuple[CostItem, ...]
    decisions: tuple[OpenDecision, ...]
    analysis: AnalysisResults
    recommendations: tuple[Recommendation, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    impacts: tuple[ImpactReport, ...] = ()


class StoredReport(ReportMetadata):
    """A report in its folder. `formats` are the files there; others are rendered from the document.

    An `archived` report has its compressed document only.
    """

    folder: Path
    formats: tuple[ReportFormat, ...]
    archived: bool = False

    def path(self, format: ReportFormat) -> Path | None:
        """The file of a format; None if it was not written."""
        return self.folder / f"report.{format}" if format in self.formats else None


class ReportList(Record):
    """Stored reports, newest first, and the names of damaged ones that were set aside."""

    reports: tuple[StoredReport, ...]
    damaged: tuple[str, ...] = ()


class ArchiveSummary(Record):
    """The result of an archiving: ids of archived reports, removed damaged ones, and freed bytes."""

    archived: tuple[str, ...] = ()
    removed_damaged: int = 0
    freed_bytes: int = 0
