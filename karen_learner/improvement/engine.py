"""`AIAnalysisEngine`: performance by component, trends, alerts and health of a period, with evidence."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping
from typing import get_args

from karen_learner.contracts import Clock
from karen_learner.errors import InvalidInput, KarenLearnerError, UnknownRecommendation
from karen_learner.improvement.components import COMPONENTS
from karen_learner.improvement.components.answering import daily_costs
from karen_learner.improvement.components.learning import results_since
from karen_learner.improvement.curves import cost_impact, labels_impact
from karen_learner.improvement.grades import Grade, Limits, worst
from karen_learner.improvement.home import AnalysedHome, AnalysedLearner, AnalysisConfig
from karen_learner.improvement.implementation import impact_metrics, measured_span
from karen_learner.improvement.recommendations import recommend
from karen_learner.improvement.roi import Amounts, calculate_roi
from karen_learner.improvement.samples import BEFORE, MAX_IDS, Samples, Source, Span
from karen_learner.improvement.trends import MetricChange, adjust, change_of, direction, interval_of
from karen_learner.records import Alert, check_id, check_limit, replace_unfit, utc_now
from karen_learner.records.improvement import (
    AnalysisResults,
    ComponentPerformance,
    DataQuality,
    ImpactMetrics,
    MetricTrend,
    Recommendation,
    RecommendationStatus,
    ROIAnalysis,
    Support,
    Value,
)

logger = logging.getLogger(__name__)

CURVE_DAYS = 180.0
"""Days whose cycles and costs make the curves of estimated impacts."""
MIN_GRADED = 5
"""Observations without which a metric has no health."""
MAX_DETAILS = 1_000


class AIAnalysisEngine(AnalysedHome):
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
        super().__init__(config, learner=learner, clock=clock)
        self._limits = Limits(self.config.alert_thresholds)

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

    async def evidence(
        self, component: str, metric: str | None, span: Span, *, limit: int = MAX_IDS
    ) -> Support:
        """The evidence of a metric in the period from `span.split` to `span.end`, with at most `limit` ids.

        Without a metric, of the component. Raises UnknownTenant, InvalidInput for an unknown component or
        metric, StoreError.
        """
        await self._start()
        found, _ = await self._collect(Source(self._store, self.tenant_id, span, limit))
        metrics = {one.name for one in found[component].metrics} if component in found else set()
        if component not in found or metric not in {None, *metrics}:
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

    # Recommendations -------------------------------------------------------------------------

    async def generate_recommendations(self, results: AnalysisResults) -> list[Recommendation]:
        """Recommendations from an analysis, and stored: those of an open one about a metric replace it.

        Estimated impacts come from curves of this tenant, or are None. Raises InvalidInput for the results of
        another tenant, StoreError.
        """
        if results.tenant_id != self.tenant_id:
            raise InvalidInput(
                f"the results are those of {results.tenant_id!r:.80}, not of {self.tenant_id!r}"
            )
        await self._start()
        end = results.analysis_period.end
        source = Source(self._store, self.tenant_id, Span.of(end, CURVE_DAYS / 2.0))
        rows = await results_since(source)
        days = await daily_costs(source)
        labels, cost = labels_impact(rows[::-1]), cost_impact(*days)
        made = list(recommend(results, labels=labels, cost=cost))
        return list(await self._store.save_recommendations(self.tenant_id, made))

    async def recommendations(self, *, limit: int = 100) -> list[Recommendation]:
        """The newest stored recommendations, newest first. Raises UnknownTenant, StoreError."""
        await self._start()
        return list(await self._store.newest_recommendations(self.tenant_id, limit=check_limit(limit)))

    async def mark_recommendation(
        self, recommendation_id: str, status: RecommendationStatus, *, details: str | None = None
    ) -> Recommendation:
        """Change the status of a recommendation. `details` describe its implementation.

        Raises InvalidInput for an unknown status, UnknownRecommendation, UnknownTenant, StoreError.
        """
        if status not in get_args(RecommendationStatus):
            known = ", ".join(get_args(RecommendationStatus))
            raise InvalidInput(f"unknown status {status!r:.60}: use {known}")
        found = await self._recommendation(recommendation_id)
        details = None if details is None else replace_unfit(details)[:MAX_DETAILS]
        changed = await self._store.mark_recommendation(
            self.tenant_id, found.id, status, now=self._clock(), details=details
        )
        return changed or found

    async def track_implementation_impact(self, recommendation_id: str) -> ImpactMetrics:
        """The metrics before and after an implementation, over equal periods of at most 14 days.

        A comparison in time: not causal. Raises InvalidInput (not implemented, or too recent),
        UnknownRecommendation, UnknownTenant, StoreError.
        """
        recommendation = await self._recommendation(recommendation_id)
        span = measured_span(recommendation, self._clock())
        found, failed = await self._collect(Source(self._store, self.tenant_id, span))
        if recommendation.category not in found:
            reason = "; ".join(failed.values()) or "it has no data in these periods"
            raise InvalidInput(f"{recommendation.category} cannot be measured: {reason}")
        return impact_metrics(recommendation, found[recommendation.category], span)

    async def _recommendation(self, recommendation_id: str) -> Recommendation:
        """Raises UnknownRecommendation."""
        await self._start()
        check_id(recommendation_id, "recommendation_id")
        found = await self._store.find_recommendation(self.tenant_id, recommendation_id)
        if found is None:
            raise UnknownRecommendation(
                f"{self.tenant_id!r} has no recommendation {recommendation_id!r:.80}: "
                "see `karen-learner recommendations`"
            )
        return found

    # Parts of the results --------------------------------------------------------------------

    def _trends(self, found: Mapping[str, Samples], span: Span) -> tuple[MetricTrend, ...]:
        observed = [
            (name, metric)
            for name, samples in found.items()
            for metric in samples.metrics
            if metric.better != "neutral" and samples.has(metric.name)
        ]
        tested = [
            (name, metric, change_of(found[name].sums(metric.name), metric, tests=len(observed)))
            for name, metric in observed
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
            if samples.count(metric.name) >= MIN_GRADED and (mean := samples.mean(metric.name)) is not None
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
        self,
        component: str,
        metric: str | None,
        samples: Samples,
        span: Span,
        change: MetricChange | None = None,
    ) -> Support:
        numbers: dict[str, Value] = {"observations": samples.observations}
        if metric is not None:
            numbers = {"observations": samples.count(metric), "value": samples.mean(metric)}
            numbers["before"] = samples.mean(metric, BEFORE)
        if change is not None and change.p is not None:
            numbers["p"] = change.p
        ids = () if metric is None else tuple(samples.ids.get(metric, ()))
        words = ["karen-learner", "evidence", self.tenant_id, component, *([metric] if metric else [])]
        words += ["--start", span.split.isoformat(), "--end", span.end.isoformat()]
        return Support(numbers=numbers, query=shlex.join(words), **{samples.kind_of_ids: ids})
