"""Reports of a period for people: executive summaries, technical reports, dashboards, and their archive."""

from karen_learner.records.period_reports import (
    ArchiveSummary,
    PeriodReport,
    ReportList,
    ReportMetadata,
    StoredReport,
)
from karen_learner.reports.manager import ReportManager

__all__ = [
    "ArchiveSummary",
    "PeriodReport",
    "ReportList",
    "ReportManager",
    "ReportMetadata",
    "StoredReport",
]
