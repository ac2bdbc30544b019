"""`ReportManager`: makes, stores, lists and archives reports in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from asyncio_extras import call_in_executor
from pydantic import TypeAdapter, ValidationError

from karen_learner.contracts import Clock
from karen_learner.disk import free_text, is_about_space, make_folder
from karen_learner.errors import InvalidInput, StoreFull, StoreReadOnly, UnknownReport
from karen_learner.models.files import replace_file
from karen_learner.records import check_id, check_limit, check_several, utc_now
from karen_learner.records.improvement import (
    AnalysisResults,
    ImpactReport,
    Recommendation,
    ROISummary,
    Ticket,
)
from karen_learner.records.period_reports import (
    ArchiveSummary,
    PeriodReport,
    ReportFormat,
    ReportKind,
    ReportList,
    ReportMetadata,
    ReportPeriod,
    StoredReport,
)
from karen_learner.reports.archive import ReportArchive
from karen_learner.reports.rendering import check_format, dashboard_html, render
from karen_learner.reports.summary import make_document

ResultT = TypeVar("ResultT")
DASHBOARD = "dashboard.html"
MAX_REPORTS = 1_000
ROOM_MADE = "The disk was full. Older reports were archived to make room for this one."


class ReportContent(TypedDict, total=False):
    """The keywords of `ReportManager.generate`.

    `failed` has the error of each part that could not be made. `data_revision` identifies the stored data.
    """

    tickets: Sequence[Ticket]
    impacts: Sequence[ImpactReport]
    roi: ROISummary | None
    period: ReportPeriod
    formats: Sequence[ReportFormat]
    notes: Sequence[str]
    failed: Mapping[str, str]
    data_revision: str | None


class ReportManager:
    """Reports below `output_directory`. `currency` is the unit of all amounts, `clock` the time of reports.

    Files are for this user only. JSON and CSV need no extra, HTML the extra `reports`, PDF `pdf`.
    """

    def __init__(
        self, output_directory: Path | str = "reports", *, currency: str = "", clock: Clock = utc_now
    ) -> None:
        self._archive = ReportArchive(Path(output_directory))
        self._currency = currency
        self._clock = clock

    @property
    def folder(self) -> Path:
        """The folder of all reports."""
        return self._archive.root

    async def generate_executive_summary(
        self,
        results: AnalysisResults,
        recommendations: Sequence[Recommendation] = (),
        **more: Unpack[ReportContent],
    ) -> StoredReport:
        """A page for decisions: improvements, their worth, their cost, and open decisions.

        `more` are the keywords of `generate`. Raises InvalidInput, StoreFull, StoreReadOnly.
        """
        return await self.generate("executive", results, recommendations, **more)

    async def generate_technical_report(
        self,
        results: AnalysisResults,
        recommendations: Sequence[Recommendation] = (),
        **more: Unpack[ReportContent],
    ) -> StoredReport:
        """The page for decisions, then all metrics with their evidence. As `generate_executive_summary`."""
        return await self.generate("technical", results, recommendations, **more)

    async def generate(
        self,
        kind: ReportKind,
        results: AnalysisResults,
        recommendations: Sequence[Recommendation] = (),
        *,
        tickets: Sequence[Ticket] = (),
        impacts: Sequence[ImpactReport] = (),
        roi: ROISummary | None = None,
        period: ReportPeriod = "weekly",
        formats: Sequence[ReportFormat] = ("html",),
        notes: Sequence[str] = (),
        failed: Mapping[str, str] | None = None,
        data_revision: str | None = None,
    ) -> StoredReport:
        """Store a report in `formats`; JSON always. All arguments are checked before anything is written.

        On a full disk older reports are archived, and the report is stored with a note. Raises InvalidInput,
        StoreFull, StoreReadOnly.
        """
        formats = await self.checked_formats(formats)
        if not isinstance(results, AnalysisResults):
            raise InvalidInput(f"a report is made of AnalysisResults, not of {type(results).__name__}")
        check_id(results.tenant_id, "tenant_id")
        try:
            metadata = ReportMetadata(
                tenant_id=results.tenant_id,
                kind=kind,
                period=period,
                analysis_period=results.analysis_period,
                created_at=self._clock(),
                data_revision=data_revision,
                currency=self._currency,
                notes=tuple(notes),
                failed=failed or {},
            )
        except ValidationError as error:
            raise InvalidInput(f"no report can be made: {error}") from error
        report = make_document(metadata, results, recommendations, tickets=tickets, impacts=impacts, roi=roi)
        return await self._blocking(lambda: self._store(report, formats))

    async def checked_formats(self, formats: Sequence[ReportFormat]) -> Sequence[ReportFormat]:
        """The formats. Raises InvalidInput for unknown ones, and for those whose libraries are missing."""
        wanted = list(dict.fromkeys(check_several(formats, "formats")))
        for format in wanted:
            await call_in_executor(check_format, format)
        return wanted

    def _store(self, report: PeriodReport, formats: Sequence[ReportFormat]) -> StoredReport:
        try:
            return self._archive.write(report, _rendered(report, formats))
        except OSError as error:
            if not is_about_space(error):
                raise
        self._archive.archive(before=report.report_metadata.created_at)
        metadata = report.report_metadata
        noted = metadata.model_copy(update={"notes": (*metadata.notes, ROOM_MADE)})
        report = report.model_copy(update={"report_metadata": noted})
        return self._archive.write(report, _rendered(report, formats))

    async def create_dashboard(
        self, historical_data: Sequence[AnalysisResults] | None = None, *, tenant_id: str | None = None
    ) -> Path:
        """A page with a chart of each metric over the periods, in place of the former one.

        Without `historical_data` it shows the stored reports of `tenant_id`. Raises InvalidInput, StoreFull.
        """
        if historical_data is None:
            check_id(tenant_id or "", "tenant_id")
            historical_data = await self._blocking(lambda: self._history(tenant_id or ""))
        try:
            history = TypeAdapter(list[AnalysisResults]).validate_python(list(historical_data))
        except (TypeError, ValidationError) as error:
            raise InvalidInput(f"historical_data are the results of analyses: {error}") from error
        tenants = {one.tenant_id for one in history} | ({tenant_id} if tenant_id is not None else set())
        if len(tenants) != 1:
            raise InvalidInput(f"a dashboard shows one tenant, not {len(tenants)}")
        (tenant,) = tenants
        page = await call_in_executor(dashboard_html, tenant, history)
        target = self._archive.tenant(tenant) / DASHBOARD
        await self._blocking(lambda: _replace(target, page))
        return target

    def _history(self, tenant_id: str) -> list[AnalysisResults]:
        """The analyses of the stored reports: of each period the newest one."""
        found: dict[Any, AnalysisResults] = {}
        for stored in self._archive.newest(tenant_id, limit=MAX_REPORTS).reports:
            period = stored.analysis_period
            if (period.start, period.end) not in found:
                with suppress(UnknownReport):  # damaged: it is set aside
                    found[period.start, period.end] = self._archive.document(stored).analysis
        return list(found.values())

    async def archive_old_reports(self, retention_days: float = 90) -> ArchiveSummary:
        """Archive the reports older than `retention_days`: their compressed document stays.

        Damaged reports of that age are removed. Raises InvalidInput, StoreFull, StoreReadOnly.
        """
        if not 0 <= retention_days <= 100_000:
            raise InvalidInput(f"retention_days is 0 to 100,000, not {retention_days!r}")
        before = self._clock() - timedelta(days=retention_days)
        return await self._blocking(lambda: self._archive.archive(before=before))

    async def reports(self, tenant_id: str, *, limit: int = 100) -> ReportList:
        """The newest reports of a tenant. Damaged ones are set aside and named. Raises InvalidInput."""
        check_id(tenant_id, "tenant_id")
        check_limit(limit)
        return await self._blocking(lambda: self._archive.newest(tenant_id, limit=limit))

    async def find(self, tenant_id: str, report_id: str) -> StoredReport:
        """A report by its id, or by an unambiguous end of it. Raises UnknownReport, InvalidInput."""
        check_id(tenant_id, "tenant_id")
        return await self._blocking(lambda: self._archive.find(tenant_id, report_id))

    async def document(self, tenant_id: str, report_id: str) -> PeriodReport:
        """The document of a report. Raises UnknownReport, InvalidInput."""
        stored = await self.find(tenant_id, report_id)
        return await self._blocking(lambda: self._archive.document(stored))

    async def content(self, tenant_id: str, report_id: str, format: ReportFormat) -> bytes:
        """A report in a format; rendered again if it has no such file. Raises UnknownReport, InvalidInput."""
        stored = await self.find(tenant_id, report_id)
        return await self._blocking(lambda: self._content(stored, format))

    def _content(self, stored: StoredReport, format: ReportFormat) -> bytes:
        path = stored.path(format)
        if path is not None:
            with suppress(FileNotFoundError):  # archived in this moment
                return path.read_bytes()
        return render(self._archive.document(stored), format)

    async def _blocking(self, work: Callable[[], ResultT]) -> ResultT:
        """The result of blocking work. Raises StoreFull and StoreReadOnly in place of errors of the disk."""
        try:
            done: ResultT = await call_in_executor(work)
        except OSError as error:
            if is_about_space(error):
                raise StoreFull(f"no room for a report: {free_text(self.folder)}") from error
            raise StoreReadOnly(f"reports in {self.folder} cannot be written or read: {error}") from error
        return done


def _rendered(report: PeriodReport, formats: Sequence[ReportFormat]) -> dict[ReportFormat, bytes]:
    return {format: render(report, format) for format in formats if format != "json"}


def _replace(target: Path, content: bytes) -> None:
    make_folder(target.parent)
    replace_file(target, content)
