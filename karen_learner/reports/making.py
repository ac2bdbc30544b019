"""`Reporter`: the report of a tenant's last week, month or quarter, from the data of a learner."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar, cast

from karen_learner import memory
from karen_learner.autonomy.cron import read_zone
from karen_learner.autonomy.parts import ServedLearner
from karen_learner.contracts import Clock
from karen_learner.errors import InvalidInput, KarenLearnerError, UnknownReport, without_message
from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig
from karen_learner.improvement.tracking import ImprovementTracker
from karen_learner.records import utc_now
from karen_learner.records.improvement import AnalysisPeriod, AnalysisResults
from karen_learner.records.period_reports import ReportFormat, ReportKind, ReportPeriod, StoredReport
from karen_learner.reports.manager import ReportManager

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
MAX_TICKETS = 1_000
MONTHS = {"monthly": 1, "quarterly": 3}
PERIODS: tuple[ReportPeriod, ...] = ("weekly", "monthly", "quarterly")
LOOKED_AT = 20
"""Newest reports whose analysis may be used again."""


def last_period(period: ReportPeriod, at: datetime, *, zone: str = "UTC") -> AnalysisPeriod:
    """The last 7 days until midnight, or the last whole month or quarter, in the zone.

    Raises InvalidInput for another period.
    """
    if period not in PERIODS:
        raise InvalidInput(f"unknown period {period!r:.60}: one of {', '.join(PERIODS)}")
    midnight = at.astimezone(read_zone(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "weekly":
        return AnalysisPeriod(start=midnight - timedelta(days=7), end=midnight)
    months = MONTHS[period]
    end = midnight.replace(day=1, month=(midnight.month - 1) // months * months + 1)
    before = end.year * 12 + end.month - 1 - months
    return AnalysisPeriod(start=end.replace(year=before // 12, month=before % 12 + 1), end=end)


class Sections:
    """Sections of a report. `failed` has the error of each one that could not be made."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    async def get(self, name: str, making: Awaitable[ResultT], otherwise: ResultT) -> ResultT:
        """The section, or `otherwise` if it fails."""
        try:
            return await making
        except KarenLearnerError as error:
            self.failed[name] = str(error)
        except Exception as error:  # one section must not end the others, and the message may quote texts
            logger.exception("the section %r of a report failed", name)
            self.failed[name] = without_message(error)
        return otherwise


class Reporter:
    """Makes and stores reports of a learner's tenants."""

    def __init__(self, learner: ServedLearner, manager: ReportManager, *, clock: Clock = utc_now) -> None:
        self._learner = learner
        self._manager = manager
        self._clock = clock

    async def make(
        self,
        tenant_id: str,
        *,
        period: ReportPeriod = "weekly",
        kind: ReportKind | None = None,
        formats: Sequence[ReportFormat] | None = None,
        at: datetime | None = None,
        fresh: bool = False,
    ) -> StoredReport:
        """Store the report of the last period before `at`. Formats and data are checked first.

        Without `at`, a weekly report covers the 7 days until this minute. If the data are those of an earlier
        report of the period, its analysis is used again, unless `fresh`. A section that fails is noted in the
        report. Raises UnknownTenant, InvalidInput, StoreError.
        """
        settings = self._learner.settings.reports
        wanted = await self._manager.checked_formats(settings.formats if formats is None else formats)
        now = self._clock()
        if at is None and period == "weekly":
            end = (now + timedelta(minutes=1)).replace(second=0, microsecond=0)
            span = AnalysisPeriod(start=end - timedelta(days=7), end=end)
        else:
            span = last_period(period, at or now, zone=settings.zone)
        await self._learner.start()
        store = cast("memory.SqlMemoryStore", self._learner.store)
        revision = await store.data_revision(tenant_id, span.start - timedelta(days=span.days), span.end)
        config = AnalysisConfig(tenant_id=tenant_id)
        engine = AIAnalysisEngine(config, learner=self._learner, clock=lambda: span.end)
        results = None if fresh else await self._known(tenant_id, span, revision)
        if results is None:
            results = await engine.analyze_weekly_performance(days_back=span.days)
        sections = Sections()
        recommendations = await sections.get("recommendations", engine.generate_recommendations(results), [])
        tracker = ImprovementTracker(learner=self._learner, tenant_id=tenant_id, clock=self._clock)
        return await self._manager.generate(
            kind or settings.kind,
            results,
            recommendations,
            tickets=await sections.get("tickets", tracker.tickets(limit=MAX_TICKETS), ()),
            impacts=await sections.get("measured effects", tracker.impacts(), ()),
            roi=await sections.get("their sum", tracker.calculate_cumulative_roi(until=span.end), None),
            period=period,
            formats=wanted,
            failed=sections.failed,
            data_revision=revision,
        )

    async def _known(self, tenant_id: str, span: AnalysisPeriod, revision: str) -> AnalysisResults | None:
        """The analysis of the newest report with this period and revision."""
        for stored in (await self._manager.reports(tenant_id, limit=LOOKED_AT)).reports:
            if stored.data_revision == revision and stored.analysis_period == span and not stored.failed:
                with suppress(UnknownReport):  # damaged: the analysis is made again
                    return (await self._manager.document(tenant_id, stored.report_id)).analysis
        return None
