"""`AIAnalysisEngine`: performance by component, trends, alerts and health of a period, with evidence."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, cast

from pydantic import Field

from karen_learner.contracts import Clock
from karen_learner.errors import InvalidInput, KarenLearnerError, UnknownTenant
from karen_learner.improvement.components import COMPONENTS
from karen_learner.improvement.grades import Grade, Limits, worst
from karen_learner.improvement.roi import Amounts, calculate_roi
from karen_learner.improvement.samples import BEFORE, MAX_IDS, Samples, Span
from karen_learner.improvement.sources import AnalysisStore, Source
from karen_learner.improvement.trends import Change, adjust, change_of, direction, interval_of
from karen_learner.memory import open_store
from karen_learner.models.files import HomeLayout
from karen_learner.records import Alert, check_id, utc_now
from karen_learner.records.base import Record
from karen_learner.records.improvement import (
    AnalysisResults,
    ComponentPerformance,
    DataQuality,
    Evidence,
    MetricTrend,
    ROIAnalysis,
    Value,
)
from karen_learner.settings import as_settings

logger = logging.getLogger(__name__)


class AnalysisConfig(Record):
    """What an engine analyses: a tenant of a home, and the limits of its metrics (see `grades.DEFAULTS`).

    `settings` is a settings file. `home` and `settings` are ignored if the engine gets a learner.
    """

    home: Path = Path()
    tenant_id: str = "default"
    settings: Path | None = None
    alert_thresholds: Mapping[str, float] = Field(default_factory=dict)


class AnalysedLearner(Protocol):
    """The part of a learner that an engine uses."""

    @property
    def store(self) -> object: ...

    async def start(self) -> None: ...


class AIAnalysisEngine:
    """Analyses one tenant. With a learner it reads the learner's store, else the one of `config.home`.

    Without a learner, use it with `async with`, or call `close()` at the end. Raises InvalidInput for
    unknown thresholds.
    """

    def __init__(
        self,
        config: AnalysisConfig | None = None,
        *,
        learner: AnalysedLearner | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.config = config or AnalysisConfig()
        self.tenant_id = check_id(self.config.tenant_id, "tenant_id")
        self._limits = Limits(self.config.alert_thresholds)
        self._learner = learner
        self._clock = clock
        self._own = None
        if learner is None:
            settings = as_settings(self.config.settings)
            layout = HomeLayout(self.config.home, settings.paths)
            self._own = open_store(settings.store.url or layout.database, settings.store, clock=clock)
        self._store = cast(AnalysisStore, learner.store if learner is not None else self._own)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the store, unless it is that of a learner. Idempotent."""
        if self._own is not None:
            await self._own.close()

    async def _start(self) -> None:
        """Raises StoreError, and UnknownTenant if the store has no data of the tenant."""
        if self._learner is not None:
            await self._learner.start()
        elif self._own is not None:
            await self._own.start()
        if await self._store.tenant_number(self.tenant_id) is None:
            raise UnknownTenant(f"nothing is stored for the tenant {self.tenant_id!r}")

    async def analyze_weekly_performance(self, days_back: float = 7) -> AnalysisResults:
        """The last `days_back` days, compared with the period of equal length before them.

        A component that cannot be analysed is in `failed`; the others finish. Raises UnknownTenant,
        InvalidInput, StoreError.
        """
        await self._start()
        source = Source(self._store, self.tenant_id, Span.of(self._clock(), days_back))
        found, failed = await self._collect(source)
        trends = self._trends(found, source.span)
        graded = {name: self._graded(name, samples) for name, samples in found.items()}
        components = {
            name: self._performance(name, samples, graded[name], source.span)
            for name, samples in found.items()
        }
        return AnalysisResults(
            tenant_id=self.tenant_id,
            created_at=self._clock(),
            analysis_period=source.span.period,
            components=components,
            overall_health=worst(one.system_health for one in components.values()),
            trends=trends,
            alerts=tuple(self._alerts(graded, trends)),
            data_quality=await self._data_quality(source.span),
            failed=failed,
        )

    def calculate_roi(self, before: Amounts, after: Amounts) -> ROIAnalysis:
        """The return of a change, from the amounts of two periods (see `roi.calculate_roi`)."""
        return calculate_roi(before, after)

    async def evidence(self, component: str, metric: str, span: Span, *, limit: int = MAX_IDS) -> Evidence:
        """The evidence of a metric in the period from `span.split` to `span.end`, with at most `limit` ids.

        Raises UnknownTenant, InvalidInput for an unknown component or metric, StoreError.
        """
        await self._start()
        found, _ = await self._collect(Source(self._store, self.tenant_id, span, limit))
        if component not in found or metric not in {one.name for one in found[component].metrics}:
            known = [f"{name} {one.name}" for name, samples in found.items() for one in samples.metrics]
            raise InvalidInput(f"no metric {component!r:.80} {metric!r:.80}: known are {', '.join(known)}")
        return self._evidence(component, metric, found[component], span)

    async def _data_quality(self, span: Span) -> DataQuality:
        """The corrupt entries of the production log. They count at the time of their arrival."""
        found = dict(await self._store.decision_reasons(self.tenant_id, start=span.split, end=span.end))
        used = found.pop("", 0)
        skipped = sum(found.values())
        return DataQuality(entries=used + skipped, used=used, skipped=skipped, reasons=found)

    async def _collect(self, source: Source) -> tuple[dict[str, Samples], dict[str, str]]:
        found: dict[str, Samples] = {}
        failed: dict[str, str] = {}
        for name, collect in COMPONENTS.items():
            try:
                found |= await collect(source)
            except KarenLearnerError as error:
                failed[name] = str(error)
            except Exception as error:  # one component must not end the others
                logger.exception("the component %r of %r cannot be analysed", name, self.tenant_id)
                failed[name] = type(error).__name__
        return found, failed

    # Parts of the results --------------------------------------------------------------------

    def _trends(self, found: Mapping[str, Samples], span: Span) -> tuple[MetricTrend, ...]:
        tested = [
            (name, metric, change_of(samples.sums(metric.name), metric))
            for name, samples in found.items()
            for metric in samples.metrics
            if metric.better != "neutral" and samples.has(metric.name)
        ]
        adjusted = adjust([change.p for _, _, change in tested])
        return tuple(
            MetricTrend(
                component=name,
                metric=metric.name,
                trend_direction=direction(change, p, metric),
                before=change.before,
                after=change.after,
                change_percentage=change.percentage,
                low=change.low,
                high=change.high,
                adjusted_p=p,
                smallest_change=change.smallest,
                observations=change.observations,
                evidence=self._evidence(name, metric.name, found[name], span, change),
            )
            for (name, metric, change), p in zip(tested, adjusted, strict=True)
        )

    def _graded(self, name: str, samples: Samples) -> list[Grade]:
        intervals = {
            metric.name: (mean, interval_of(samples.sums(metric.name), metric))
            for metric in samples.metrics
            if (mean := samples.mean(metric.name)) is not None
        }
        return list(self._limits.grades(name, intervals))

    def _performance(
        self, name: str, samples: Samples, grades: list[Grade], span: Span
    ) -> ComponentPerformance:
        health = worst(grade.health for grade in grades)
        return ComponentPerformance(
            component=name,
            metrics={metric.name: samples.mean(metric.name) for metric in samples.metrics},
            groups=samples.groups,
            observations=samples.observations,
            system_health=health,
            reasons=tuple(grade.reason for grade in grades if grade.health == health),
            evidence=self._evidence(name, None, samples, span),
        )

    def _alerts(self, graded: Mapping[str, list[Grade]], trends: tuple[MetricTrend, ...]) -> Iterator[Alert]:
        for component, grades in graded.items():
            for one in grades:
                if one.health in ("critical", "needs_attention"):
                    yield Alert(
                        level="critical" if one.health == "critical" else "warning",
                        reading=f"{component}.{one.metric}",
                        message=f"{component}: {one.reason}",
                        details={"value": one.value, "threshold": one.limit},
                        at=self._clock(),
                    )
        for trend in trends:
            if trend.trend_direction == "declining":
                yield Alert(
                    level="warning",
                    reading=f"{trend.component}.{trend.metric}",
                    message=f"{trend.component}: {trend.metric} is declining",
                    details={"before": trend.before, "after": trend.after, "p": trend.adjusted_p},
                    at=self._clock(),
                )

    def _evidence(
        self, component: str, metric: str | None, samples: Samples, span: Span, change: Change | None = None
    ) -> Evidence:
        numbers: dict[str, Value] = {"observations": samples.observations}
        if metric is not None:
            numbers = {"observations": samples.count(metric), "value": samples.mean(metric)}
            numbers["before"] = samples.mean(metric, BEFORE)
        if change is not None and change.p is not None:
            numbers["p"] = change.p
        ids = () if metric is None else tuple(samples.ids.get(metric, ()))
        words = ["karen-learner", "evidence", self.tenant_id, component, *([metric] if metric else [])]
        words += ["--start", span.split.isoformat(), "--end", span.end.isoformat()]
        return Evidence(numbers=numbers, query=shlex.join(words), **{samples.kind_of_ids: ids})
