"""Recommendations: from alerts, trends and measured curves; stored with a status; measured afterwards."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

import numpy as np
import pytest
from scipy import stats

from karen_learner.errors import InvalidInput, UnknownRecommendation
from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig
from karen_learner.improvement.curves import cost_impact, labels_impact, line
from karen_learner.improvement.tracking import ImprovementTracker
from karen_learner.memory import SqlMemoryStore
from karen_learner.records import CycleRow, LearningCycleResult, Outcome, ValidationResult
from karen_learner.records.decisions import LogEntry
from karen_learner.records.improvement import Recommendation
from tests.improvement.conftest import ACME, Engine, StoreOwner, judged_turns
from tests.memory.memory_specimens import NOON


def deployed(number: int, examples: int, accuracy: float) -> LearningCycleResult:
    names = [name for name in ValidationResult.model_fields if name.endswith(("accuracy", "_score"))]
    scores = dict.fromkeys([*names, "precision", "recall"], accuracy)
    return LearningCycleResult(
        cycle_id=f"c{number}",
        tenant_id=ACME,
        mode="incremental",
        reason=None,
        status="deployed",
        training_examples=examples,
        validation=ValidationResult(**scores, passed_threshold=True),
        started_at=NOON - timedelta(days=60 - 5 * number),
    )


def test_a_line_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=30)
    y = 0.5 * x + random.normal(size=30)
    found, wanted = line(x, y), stats.linregress(x, y)
    assert found is not None
    half = wanted.stderr * stats.t.ppf(0.975, 28)
    assert found.slope == pytest.approx(wanted.slope)
    assert (found.low, found.high) == pytest.approx((wanted.slope - half, wanted.slope + half), rel=1e-2)


def test_lines_need_points_that_differ() -> None:
    assert line([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None
    assert line([1.0] * 9, list(range(9))) is None


def test_the_gain_of_labels_follows_from_past_cycles() -> None:
    cycles = [deployed(n, 100, 0.5 + 0.1 * math.log(100 * (n + 1)) / 2) for n in range(6)]
    found = labels_impact(cycles)
    assert found is not None
    assert found.change == pytest.approx(0.05 * math.log(1.25))
    assert "6 deployed cycles" in found.source
    flat = [deployed(n, 100, 0.8 + (-1) ** n * 0.01) for n in range(6)]
    assert labels_impact(flat) is None


def test_the_cost_falls_with_the_share_of_llms() -> None:
    found = cost_impact([0.1, 0.5, 0.3, 0.7, 0.4], [0.2, 1.0, 0.6, 1.4, 0.8])
    assert found is not None
    assert found.change == pytest.approx(2.0 * (0.1 - 0.4))
    assert found.low <= found.change <= found.high < 0.0


async def declining(store: SqlMemoryStore) -> None:
    turns = [*judged_turns(0.9, days_ago=10), *judged_turns(0.5, days_ago=2, seed=1)]
    await asyncio.gather(*map(store.add_turn, turns))


async def made(engine: AIAnalysisEngine) -> list[Recommendation]:
    return await engine.generate_recommendations(await engine.analyze_weekly_performance())


async def test_a_decline_is_recommended_against_once(store: SqlMemoryStore, engine: Engine) -> None:
    await declining(store)
    found = await made(engine())
    one = next(one for one in found if one.metric == "understanding.intent_accuracy")
    assert one.priority == "HIGH"
    assert one.action_items
    assert one.estimated_impact is None, "no curve is known"
    assert one.evidence.turn_ids
    again = await made(engine())
    assert {one.id for one in again} == {one.id for one in found}
    assert {one.id for one in await engine().recommendations()} == {one.id for one in found}


async def test_a_dismissed_recommendation_is_silent(store: SqlMemoryStore, engine: Engine) -> None:
    await declining(store)
    one = (await made(engine()))[0]
    await engine().mark_recommendation(one.id, "dismissed", details="we know")
    assert one.metric not in {other.metric for other in await made(engine())}
    assert len(await engine().recommendations()) >= 1


async def test_an_implementation_is_measured_afterwards(store: SqlMemoryStore, engine: Engine) -> None:
    await declining(store)
    one = next(one for one in await made(engine()) if one.metric == "understanding.intent_accuracy")
    with pytest.raises(InvalidInput, match="mark it as implemented"):
        await engine().track_implementation_impact(one.id)
    await engine().mark_recommendation(one.id, "implemented", details="more labels")
    with pytest.raises(InvalidInput, match="less than a day"):
        await engine().track_implementation_impact(one.id)
    later = NOON + timedelta(days=4)
    turns = judged_turns(0.9, days_ago=-3, seed=2)
    await asyncio.gather(*map(store.add_turn, turns))
    after = AIAnalysisEngine(AnalysisConfig(tenant_id=ACME), learner=StoreOwner(store), clock=lambda: later)
    found = await after.track_implementation_impact(one.id)
    assert found.recommendation_id == one.id
    assert found.implementation_details == "more labels"
    assert found.measurement_period_days == 4.0
    assert found.before_metrics["intent_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert found.after_metrics["intent_accuracy"] == pytest.approx(0.9, abs=0.1)
    assert found.improvement_percentage is not None
    assert found.improvement_percentage > 50
    assert found.measurement_confidence > 0.95
    assert found.roi_calculation.roi_percentage is None


async def test_a_recommendation_has_the_status_of_its_ticket(store: SqlMemoryStore, engine: Engine) -> None:
    await declining(store)
    one = (await made(engine()))[0]
    tracker = ImprovementTracker(learner=StoreOwner(store), tenant_id=ACME, clock=lambda: NOON)
    ticket = await tracker.create_improvement_ticket(one)
    [accepted] = [other for other in await engine().recommendations() if other.id == one.id]
    assert accepted.status == "accepted"
    await tracker.mark_implemented(ticket, "more labels")
    [done] = [other for other in await engine().recommendations() if other.id == one.id]
    assert (done.status, done.implemented_at, done.implementation_details) == (
        "implemented",
        NOON,
        "more labels",
    )


async def test_unknown_recommendations_are_refused(store: SqlMemoryStore, engine: Engine) -> None:
    await declining(store)
    with pytest.raises(UnknownRecommendation):
        await engine().track_implementation_impact("x")
    one = (await made(engine()))[0]
    with pytest.raises(InvalidInput, match="unknown status"):
        await engine().mark_recommendation(one.id, "done")  # type: ignore[arg-type]
    results = (await engine().analyze_weekly_performance()).model_copy(update={"tenant_id": "other"})
    with pytest.raises(InvalidInput, match="results are those"):
        await engine().generate_recommendations(results)


async def test_corrupt_log_entries_are_to_be_mended(store: SqlMemoryStore, engine: Engine) -> None:
    faulty = [LogEntry(f"k{n}", NOON - timedelta(days=1), None, reason="no JSON") for n in range(20)]
    await store.add_decisions(ACME, faulty)
    [one] = await made(engine())
    assert one.category == "data quality"
    assert "no JSON" in one.description


async def test_learning_answering_and_costs_are_components(store: SqlMemoryStore, engine: Engine) -> None:
    for number in range(8):
        result = deployed(number, 100, 0.5 + 0.05 * math.log(100 * (number + 1)))
        row = CycleRow(cycle_id=result.cycle_id, tenant_id=ACME, mode="incremental", reason=None,
                       stage="curating", token=1, started_at=result.started_at)  # fmt: skip
        await store.start_cycle(row)
        await store.finish_cycle(ACME, result.cycle_id, result)
    outcomes = [
        Outcome(
            outcome_id=f"o{day}-{n}",
            known_at=NOON - timedelta(days=day, minutes=n + 1),
            source="attempt",
            agent="answers",
            strategy="llm" if n < 4 * (day + 1) else "spacy",
            task_id=f"t{day}-{n}",
            success=n % 5 != 0,
            duration_ms=100.0,
            cost=0.5 if n < 4 * (day + 1) else 0.0,
        )
        for day in range(7)
        for n in range(40)
    ]
    await store.add_outcomes(ACME, outcomes)
    results = await engine().analyze_weekly_performance(40)
    learning, answering = results.components["learning"], results.components["answering"]
    assert learning.metrics["deployment_rate"] == 1.0
    assert learning.observations == 4  # the others are before the period
    assert answering.metrics["success_rate"] == pytest.approx(0.8)
    assert answering.groups["cost_by_strategy"] == {"llm": 0.5, "spacy": 0.0}
    found = {one.metric: one for one in await engine().generate_recommendations(results)}
    assert found["labels"].estimated_impact is not None
    assert found["llm_rate"].estimated_impact is not None
    assert found["llm_rate"].estimated_impact.change < 0.0
