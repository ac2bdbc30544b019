"""Analyses of a period, recommendations, measured effects of changes, and health."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from karen_learner.records.base import Record, Score, new_id, utc_now
from karen_learner.records.holdbacks import Holdback
from karen_learner.records.outcomes import Alert

SystemHealth = Literal["excellent", "good", "needs_attention", "critical"]
TrendDirection = Literal["improving", "declining", "stable", "unclear"]
"""`stable` only if the data could have shown a change; otherwise `unclear`."""
Priority = Literal["HIGH", "MEDIUM", "LOW"]
Difficulty = Literal["LOW", "MEDIUM", "HIGH"]
RecommendationStatus = Literal["open", "accepted", "implemented", "measured", "dismissed"]
Design = Literal["holdback", "interrupted_series", "not_measurable"]
"""Source of a measured effect: a randomised share of users, a series before and after, or neither."""

DEPLOYED = "deployed-"
"""Ids of the tickets of versions begin so, and end with the version."""

Value = float | int | str | None
Percent = Annotated[float, Field(allow_inf_nan=False)]


class Support(Record):
    """Support of a finding: numbers, ids of turns, cycles, log entries or tasks, and their query."""

    numbers: Mapping[str, Value] = Field(default_factory=dict)
    turn_ids: tuple[str, ...] = ()
    cycle_ids: tuple[str, ...] = ()
    entry_ids: tuple[str, ...] = ()
    task_ids: tuple[str, ...] = ()
    query: str


class AnalysisPeriod(Record):
    """A period: `start` included, `end` excluded, both timezone-aware."""

    start: datetime
    end: datetime

    @property
    def days(self) -> float:
        """Length in days."""
        return (self.end - self.start).total_seconds() / 86_400


class MetricTrend(Record):
    """Change of one metric between two periods of equal length, with a 95 % interval.

    `low` and `high` bound the change `after - before`, in the unit of the metric. `adjusted_p` is corrected
    for the number of metrics. `smallest_change` is the change that the data would have shown with 80 % power.
    """

    component: str
    metric: str
    trend_direction: TrendDirection
    before: float | None
    after: float | None
    change_percentage: Percent | None
    low: float | None
    high: float | None
    adjusted_p: Score | None
    smallest_change: float | None
    observations: int
    evidence: Support


class ComponentPerformance(Record):
    """Metrics of one component in a period. None: no observation. `reasons` explain `system_health`.

    `groups` has means by name: for example the success rate by strategy.
    """

    component: str
    metrics: Mapping[str, float | None]
    groups: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)
    observations: int
    system_health: SystemHealth | None
    reasons: tuple[str, ...] = ()
    evidence: Support


class DataQuality(Record):
    """Entries of the production log in a period: read, used and skipped, with the count of each reason."""

    entries: int = 0
    used: int = 0
    skipped: int = 0
    reasons: Mapping[str, int] = Field(default_factory=dict)

    @property
    def note(self) -> str | None:
        """One sentence on skipped entries; None if there are none."""
        if not self.skipped:
            return None
        share = self.skipped / self.entries
        return f"{self.skipped:,} of {self.entries:,} log entries ({share:.1%}) are skipped."


class AnalysisResults(Record):
    """Performance of all components in a period. `components` has the component's name as key.

    `failed` has the error message of each component that could not be analysed.
    """

    analysis_id: str = Field(default_factory=new_id)
    tenant_id: str
    created_at: datetime = Field(default_factory=utc_now)
    analysis_period: AnalysisPeriod
    components: Mapping[str, ComponentPerformance]
    overall_health: SystemHealth | None
    trends: tuple[MetricTrend, ...]
    alerts: tuple[Alert, ...]
    data_quality: DataQuality = DataQuality()
    failed: Mapping[str, str] = Field(default_factory=dict)


class EstimatedImpact(Record):
    """Expected change of a metric, from a measured curve, with a 95 % interval. `source` names the curve."""

    metric: str
    change: float
    low: float
    high: float
    source: str


class Recommendation(Record):
    """A proposed improvement with its evidence. `estimated_impact` is None without a measured curve.

    `metric` is the metric to improve, as `<component>.<metric>`. `changed_at` is the time of its `status`.
    """

    id: str = Field(default_factory=new_id)
    tenant_id: str
    category: str
    metric: str = ""
    priority: Priority
    title: str
    description: str
    action_items: tuple[str, ...]
    estimated_impact: EstimatedImpact | None
    implementation_difficulty: Difficulty
    created_at: datetime = Field(default_factory=utc_now)
    status: RecommendationStatus = "open"
    changed_at: datetime | None = None
    implemented_at: datetime | None = None
    implementation_details: str | None = None
    evidence: Support


class ROIAnalysis(Record):
    """Return on investment of a change. Amounts in the currency of the host.

    None: the cost is unknown, or there is nothing to divide by.
    """

    gain: float
    cost: float | None
    net: float | None
    roi_percentage: Percent | None
    payback_days: float | None
    explanation: str


class ImpactMetrics(Record):
    """Metrics before and after a recommendation was implemented."""

    recommendation_id: str
    implementation_details: str | None
    before_metrics: Mapping[str, float | None]
    after_metrics: Mapping[str, float | None]
    improvement_percentage: Percent | None
    roi_calculation: ROIAnalysis
    measurement_confidence: Score
    measurement_period_days: float


class Effect(Record):
    """Estimated change of a metric with a 95 % interval. `causal` only for a randomised holdback.

    `before` is the mean without the change, `after` with it. `controls` counts the tenants without a change
    whose mean change in time is subtracted.
    """

    metric: str
    change: float
    low: float
    high: float
    standard_error: float
    before: float
    after: float
    design: Design
    causal: bool
    users_changed: int
    users_kept: int
    observations: int
    controls: int = 0


class Ticket(Record):
    """A planned or done change. Metric, window and expected effect are fixed when the ticket is opened.

    `smallest_effect` is the effect that the data of the window can show with 80 % power; None if unknown.
    With a `holdback`, some users keep the version before.
    """

    ticket_id: str = Field(default_factory=new_id)
    tenant_id: str
    recommendation_id: str | None
    title: str
    metric: str
    measurement_period_days: int
    expected_effect: float | None
    smallest_effect: float | None
    version: str | None
    holdback: Holdback | None = None
    cost: float | None
    status: RecommendationStatus
    opened_at: datetime = Field(default_factory=utc_now)
    implemented_at: datetime | None = None
    implementation_details: str | None = None

    def window_end(self, windows: int = 1) -> datetime | None:
        """The end of the measurement period, or of several of them; None before the implementation."""
        if self.implemented_at is None:
            return None
        return self.implemented_at + windows * timedelta(days=self.measurement_period_days)


class ImpactReport(Record):
    """Measured effect of a ticket. `effect` is None if it is not measurable; `conclusion` is one sentence.

    Only a complete measurement counts and is stored: over the period of the ticket, or later over twice that
    period (`counts`). `roi_estimate` is the return in percent.
    """

    ticket_id: str
    recommendation_id: str | None
    implementation_details: str | None
    measured_at: datetime = Field(default_factory=utc_now)
    period: AnalysisPeriod
    before_metrics: Mapping[str, float | None]
    after_metrics: Mapping[str, float | None]
    effect: Effect | None
    roi: ROIAnalysis
    roi_estimate: Percent | None
    conclusion: str
    counts: bool
    evidence: Support


class ROISummary(Record):
    """Effects of all measured tickets of a metric, shrunk towards their mean (empirical Bayes).

    `cumulative` is the sum of the shrunk effects of the changes that are in use, with a 95 % interval.
    `sum_of_significant` is the biased sum of the effects whose interval excludes zero, for comparison.
    `causal` if all of them are. `costs_recorded` and `costs_missing` count the added changes with and without
    a recorded cost. `answer_value` is the worth of one more right answer that the gain counts with.
    """

    tickets: int
    measured: int
    causal: bool = False
    metric: str | None
    cumulative: float | None
    low: float | None
    high: float | None
    sum_of_significant: float | None
    roi: ROIAnalysis
    costs_recorded: int = 0
    costs_missing: int = 0
    answer_value: float | None = None


class ComponentHealth(Record):
    """Health of one component with its reasons. None: too little data."""

    system_health: SystemHealth | None
    reasons: tuple[str, ...] = ()
    observations: int = 0


class HealthStatus(Record):
    """Health of a system: the worst of its components."""

    tenant_id: str
    checked_at: datetime = Field(default_factory=utc_now)
    system_health: SystemHealth | None
    components: Mapping[str, ComponentHealth]
    alerts: tuple[Alert, ...] = ()


class HealthPoint(Record):
    """Health of a system at a time."""

    at: datetime
    system_health: SystemHealth | None


class HealthDashboard(Record):
    """The present health of a system, and its history, oldest first."""

    tenant_id: str
    status: HealthStatus
    history: tuple[HealthPoint, ...]
