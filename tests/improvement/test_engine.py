"""Analyses of stored turns."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from karen_learner import blocking
from karen_learner.errors import InvalidInput, UnknownTenant
from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig
from karen_learner.improvement.samples import Span
from karen_learner.memory import SqlMemoryStore, open_store
from karen_learner.records import Turn
from karen_learner.records.stream import NewEvent, StreamEvent
from karen_learner.settings import StoreSettings
from tests.improvement.conftest import ACME, Engine, judged_turns
from tests.memory.memory_specimens import NOON, make_turn


async def add(store: SqlMemoryStore, *turns: Turn) -> None:
    await asyncio.gather(*map(store.add_turn, turns))


async def test_a_decline_of_the_accuracy_is_told_with_its_turns(
    store: SqlMemoryStore, engine: Engine
) -> None:
    await add(store, *judged_turns(0.9, days_ago=10), *judged_turns(0.6, days_ago=2, seed=1))
    results = await engine().analyze_weekly_performance()
    found = results.components["understanding"]
    assert found.observations == 300
    assert found.metrics["intent_accuracy"] == pytest.approx(0.6, abs=0.08)
    trend = next(one for one in results.trends if one.metric == "intent_accuracy")
    assert trend.trend_direction == "declining"
    assert trend.high is not None
    assert trend.high < 0.0
    assert any("intent_accuracy is declining" in alert.message for alert in results.alerts)
    for name in trend.evidence.turn_ids:
        turn = await store.get_turn(ACME, name)
        assert turn is not None
        assert turn.feedback is not None
        assert turn.feedback.corrected_intent == "travel"


async def test_evidence_is_found_again(store: SqlMemoryStore, engine: Engine) -> None:
    await add(store, *judged_turns(0.6, days_ago=2))
    results = await engine().analyze_weekly_performance()
    trend = next(one for one in results.trends if one.metric == "intent_accuracy")
    period = results.analysis_period
    span = Span(period.start, period.start, period.end)
    again = await engine().evidence("understanding", "intent_accuracy", span)
    assert again.turn_ids == trend.evidence.turn_ids
    assert f"karen-learner evidence {ACME} understanding intent_accuracy" in trend.evidence.query


async def test_a_week_without_turns_has_no_health(store: SqlMemoryStore, engine: Engine) -> None:
    await add(store, *judged_turns(0.6, days_ago=100))
    results = await engine().analyze_weekly_performance()
    assert results.overall_health is None
    assert results.components["understanding"].metrics["intent_accuracy"] is None
    assert results.alerts == ()


async def test_limits_decide_about_the_health(store: SqlMemoryStore, engine: Engine) -> None:
    await add(store, *judged_turns(0.8, days_ago=2))
    relaxed = {"intent_accuracy_min": 0.4, "correction_rate_max": 0.9}
    calm = await engine(alert_thresholds=relaxed).analyze_weekly_performance()
    assert calm.components["understanding"].system_health in ("good", "excellent")
    strict = await engine(alert_thresholds={"intent_accuracy_min": 0.95}).analyze_weekly_performance()
    assert strict.components["understanding"].system_health == "needs_attention"
    assert "minimum 0.95" in strict.components["understanding"].reasons[0]


async def test_tenants_are_apart(store: SqlMemoryStore, engine: Engine) -> None:
    await add(
        store, *judged_turns(0.8, days_ago=2), make_turn("x", tenant="other", occurred_at=NOON - timedelta(1))
    )
    other = await engine("other").analyze_weekly_performance()
    assert other.components["understanding"].observations == 1
    with pytest.raises(UnknownTenant):
        await engine("nobody").analyze_weekly_performance()


async def test_events_are_summed_by_hour(store: SqlMemoryStore, engine: Engine) -> None:
    for minutes in range(0, 240, 10):
        arrived = NOON - timedelta(days=1, minutes=minutes)
        event = StreamEvent(agent_name="agent", success=True, occurred_at=arrived - timedelta(seconds=30))
        await store.add_events(ACME, [NewEvent(f"e{minutes}", event)], now=arrived)
    span = Span.of(NOON, 7)
    sums = await store.event_sums(ACME, start=span.start, split=span.split, end=span.end)
    assert len(sums) == 5  # 12:00 on the day before, and the four hours before
    results = await engine().analyze_weekly_performance()
    found = results.components["stream"]
    assert found.observations == 24
    assert found.metrics["delay_s"] == pytest.approx(30.0)
    assert found.metrics["waiting_rate"] == 1.0


@pytest.mark.parametrize("days", [0, -1, float("nan"), 1e9, True, "7"])
async def test_impossible_periods_are_refused(store: SqlMemoryStore, engine: Engine, days: float) -> None:
    await add(store, make_turn())
    with pytest.raises(InvalidInput):
        await engine().analyze_weekly_performance(days)


@pytest.mark.parametrize("name", ["intent_accuracy", "intent_accuracy_least", "_min"])
def test_unknown_thresholds_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown threshold"):
        AIAnalysisEngine(AnalysisConfig(home=tmp_path, alert_thresholds={name: 0.5}))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"intent_accuracy_min": 1.5}, "in 0 to 1"),
        ({"planner.error_rate_max": -0.1}, "in 0 to 1"),
        ({"success_rate_min": 0.9, "success_rate_max": 0.2}, "not both"),
    ],
)
def test_impossible_thresholds_are_refused(limits: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        AIAnalysisEngine(AnalysisConfig(home=tmp_path, alert_thresholds=limits))


async def test_an_engine_opens_the_store_of_a_home(tmp_path: Path, store_settings: StoreSettings) -> None:
    async with open_store(tmp_path / "karen.db", store_settings) as store:
        await add(store, *judged_turns(0.8, days_ago=2))
    config = AnalysisConfig(home=tmp_path, tenant_id=ACME)
    async with AIAnalysisEngine(config, clock=lambda: NOON) as engine:
        found = await engine.analyze_weekly_performance()
    assert found.components["understanding"].observations == 300


def test_the_synchronous_twin_analyses(tmp_path: Path) -> None:
    with blocking.create_autonomous_learner(tmp_path) as learner:
        learner.collect_conversation_metadata(ACME, "hello", "good morning", "u1")
        engine = blocking.AIAnalysisEngine(AnalysisConfig(tenant_id=ACME), learner=learner)
        found = engine.analyze_weekly_performance()
    assert found.components["understanding"].observations == 1
