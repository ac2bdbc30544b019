"""Records of a week, made by hand."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from karen_learner.records import Alert
from karen_learner.records.improvement import (
    AnalysisPeriod,
    AnalysisResults,
    ComponentPerformance,
    DataQuality,
    Effect,
    EstimatedImpact,
    ImpactReport,
    MetricTrend,
    Recommendation,
    ROIAnalysis,
    ROISummary,
    Support,
    Ticket,
)

END = datetime(2030, 1, 6, tzinfo=timezone.utc)
WEEK = AnalysisPeriod(start=END - timedelta(days=7), end=END)
EVIDENCE = Support(numbers={"n": 4_812}, query="karen-learner history telecom --json")


COSTS = Support(numbers={"observations": 1_200}, query="karen-learner strategies telecom")


def trend(metric: str, before: float, after: float, direction: str, **more: Any) -> MetricTrend:
    given: dict[str, Any] = {
        "component": "understanding",
        "metric": metric,
        "trend_direction": direction,
        "before": before,
        "after": after,
        "change_percentage": 100 * (after - before) / before,
        "low": (after - before) - 0.02 * max(abs(after), 0.1),
        "high": (after - before) + 0.02 * max(abs(after), 0.1),
        "adjusted_p": 0.004,
        "smallest_change": 0.01,
        "observations": 4_812,
        "evidence": EVIDENCE,
    }
    return MetricTrend(**given | more)


def component(name: str, metrics: dict[str, float | None], **more: Any) -> ComponentPerformance:
    given: dict[str, Any] = {
        "component": name,
        "metrics": metrics,
        "observations": 4_812,
        "system_health": "good",
        "evidence": EVIDENCE,
    }
    return ComponentPerformance(**given | more)


def a_week(tenant_id: str = "telecom", *, period: AnalysisPeriod = WEEK, **more: Any) -> AnalysisResults:
    given: dict[str, Any] = {
        "tenant_id": tenant_id,
        "created_at": period.end,
        "analysis_period": period,
        "components": {
            "understanding": component(
                "understanding", {"intent_accuracy": 0.894, "sentiment_accuracy": 0.81}
            ),
            "learning": component("learning", {"training_seconds": 1_260.0, "deployed_share": 0.5}),
            "answering": component(
                "answering",
                {"total_cost": 84.1, "fallback_rate": 0.041},
                system_health="needs_attention",
                reasons=("the fallback answers 4.1 % of the turns, more than 3 %",),
            ),
            "stream": component("stream", {"events": 0.0}, system_health=None, observations=0),
        },
        "overall_health": "needs_attention",
        "trends": (
            trend("intent_accuracy", 0.861, 0.894, "improving"),
            trend("satisfaction", 0.71, 0.742, "improving", adjusted_p=0.02),
            trend("cost", 0.09, 0.07, "stable", component="answering", evidence=COSTS),
            trend("fallback_rate", 0.022, 0.041, "declining", component="answering"),
            trend("sentiment_accuracy", 0.81, 0.812, "stable", adjusted_p=0.8),
            trend("entity_accuracy", 0.78, 0.80, "unclear", adjusted_p=0.6, observations=61),
        ),
        "alerts": (
            Alert(
                level="critical",
                reading="fallback_rate",
                message="fallback_rate 4.1 % is above 3 %",
                at=period.end - timedelta(hours=5),
            ),
        ),
        "data_quality": DataQuality(entries=10_000, used=9_900, skipped=100, reasons={"no JSON": 100}),
    }
    return AnalysisResults(**given | more)


def recommendation(title: str = "Label 60 texts of the intent “roaming”", **more: Any) -> Recommendation:
    given: dict[str, Any] = {
        "tenant_id": "telecom",
        "category": "labels",
        "priority": "HIGH",
        "title": title,
        "description": "It has 9 labelled texts and 18 % of all corrections. The curve of the other intents "
        "shows +1.4 points of accuracy from 60 more texts.",
        "action_items": ("open the review queue", "label 60 texts", "run a cycle"),
        "estimated_impact": EstimatedImpact(
            metric="intent_accuracy", change=0.014, low=0.006, high=0.022, source="accuracy against labels"
        ),
        "implementation_difficulty": "LOW",
        "created_at": END,
        "evidence": EVIDENCE,
    }
    return Recommendation(**given | more)


def roi_analysis(**more: Any) -> ROIAnalysis:
    given: dict[str, Any] = {
        "gain": 1_904.0,
        "cost": 620.0,
        "net": 1_284.0,
        "roi_percentage": 207.1,
        "payback_days": 12.0,
        "explanation": "1,190 turns less for people, at 1.60 each; 31 hours of labelling at 20 each.",
    }
    return ROIAnalysis(**given | more)


def ticket(**more: Any) -> Ticket:
    given: dict[str, Any] = {
        "ticket_id": "t1",
        "tenant_id": "telecom",
        "recommendation_id": None,
        "title": "Version v0007-1a2b3c4d",
        "metric": "intent_accuracy",
        "measurement_period_days": 14,
        "expected_effect": 0.02,
        "smallest_effect": 0.011,
        "version": "v0007-1a2b3c4d",
        "cost": 620.0,
        "status": "measured",
        "opened_at": END - timedelta(days=6),
        "implemented_at": END - timedelta(days=6),
    }
    return Ticket(**given | more)


def impact(**more: Any) -> ImpactReport:
    given: dict[str, Any] = {
        "ticket_id": "t1",
        "recommendation_id": None,
        "implementation_details": "deployed",
        "measured_at": END - timedelta(hours=1),
        "before_metrics": {"intent_accuracy": 0.87},
        "after_metrics": {"intent_accuracy": 0.891},
        "roi_estimate": 207.1,
        "counts": True,
        "period": WEEK,
        "effect": Effect(
            metric="intent_accuracy", change=0.021, low=0.008, high=0.034, standard_error=0.0066, before=0.87,
            after=0.891, design="holdback", causal=True, users_changed=812, users_kept=90, observations=4_812,
        ),
        "roi": roi_analysis(),
        "conclusion": "Intent accuracy rose by 2.1 points (0.8 to 3.4) against the former version.",
        "evidence": EVIDENCE,
    }  # fmt: skip
    return ImpactReport(**given | more)


def roi_summary(**more: Any) -> ROISummary:
    given: dict[str, Any] = {
        "tickets": 5,
        "measured": 3,
        "causal": True,
        "metric": "intent_accuracy",
        "cumulative": 0.031,
        "low": 0.009,
        "high": 0.053,
        "sum_of_significant": 0.058,
        "roi": roi_analysis(),
    }
    return ROISummary(**given | more)
