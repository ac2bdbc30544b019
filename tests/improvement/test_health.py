"""Health: limits that follow the amount of data, notifications and history."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner import blocking
from karen_learner.autonomy.health_part import HealthPart
from karen_learner.autonomy.service import AutonomousService
from karen_learner.errors import InvalidInput
from karen_learner.improvement import AnalysisConfig, HealthMonitor
from karen_learner.improvement.grades import RANKS, Limit, Limits
from karen_learner.improvement.health import health_of
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.records import HealthProblem
from karen_learner.records.incidents import Incident
from tests.improvement.conftest import ACME, judged_turns
from tests.improvement.test_production_log import entry
from tests.memory.memory_specimens import NOON

TARGETS = {"notifications.targets": {"ops": {"kind": "webhook", "url": "https://example.org/hook"}}}


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def monitor(learner: AutonomousLearner, clock: Clock, **limits: float) -> HealthMonitor:
    return HealthMonitor(limits, config=AnalysisConfig(tenant_id=ACME), learner=learner, clock=clock)


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0.01, 1), st.booleans())
def test_a_worse_value_is_never_healthier(value: float, half: float, limit: float, is_minimum: bool) -> None:
    one = Limit(limit, is_minimum)
    worse = value - 0.1 if is_minimum else value + 0.1
    ranks = [RANKS[one.grade((at - half, at + half))] for at in (value, worse)]
    assert ranks[0] <= ranks[1]


@pytest.mark.parametrize(
    ("observations", "health"), [(4, "good"), (40, "needs_attention"), (4_000, "needs_attention")]
)
async def test_limits_follow_the_amount_of_data(tmp_path: Path, observations: int, health: str) -> None:
    async with create_autonomous_learner(tmp_path) as learner:
        await learner.store.add_turn(judged_turns(1.0, days_ago=1, users=1, each=1)[0])
        found = await monitor(learner, Clock()).check_system_health(
            {"answering.success_rate": 0.5, "observations": observations}
        )
    assert found.components["answering"].system_health == health
    assert found.system_health == health


async def test_the_readings_of_a_tenant_decide(tmp_path: Path) -> None:
    async with create_autonomous_learner(tmp_path, clock=lambda: NOON) as learner:
        await asyncio.gather(*map(learner.store.add_turn, judged_turns(0.2, days_ago=0.1)))
        found = await monitor(learner, Clock()).check_system_health()
    assert found.components["understanding"].system_health == "critical"
    assert any("accuracy" in reason for reason in found.components["understanding"].reasons)
    assert any(alert.level == "critical" for alert in found.alerts)
    assert found.system_health == "critical"


async def test_a_problem_is_queued_once_until_its_recovery(tmp_path: Path) -> None:
    clock = Clock()
    async with create_autonomous_learner(tmp_path, clock=clock, overrides=TARGETS) as learner:
        await learner.store.add_turn(judged_turns(1.0, days_ago=1, users=1, each=1)[0])
        made = monitor(learner, clock)
        for value in (0.1, 0.1, 0.99, 0.1):
            await made.check_system_health({"answering.success_rate": value})
            await made.trigger_alerts()
            clock.now += timedelta(minutes=1)
        [state] = await learner.store.target_states()  # type: ignore[attr-defined]
        assert state.waiting == 3, "a problem, its recovery, and a problem"
        assert not await made.escalate_critical_issues(2)
        assert await made.escalate_critical_issues(3)
        assert not await made.escalate_critical_issues(4), "it was told"


@pytest.mark.parametrize("has_incident", [False, True])
async def test_the_service_tells_of_an_unhealthy_tenant_unless_an_incident_does(
    tmp_path: Path, has_incident: bool
) -> None:
    clock = Clock()
    async with create_autonomous_learner(tmp_path, clock=clock, overrides=TARGETS) as learner:
        await asyncio.gather(*map(learner.store.add_turn, judged_turns(0.2, days_ago=0.1)))
        if has_incident:
            times = {"opened_at": NOON, "updated_at": NOON, "next_at": NOON}
            await learner.store.save_incident(
                Incident(tenant_id=ACME, type="low_accuracy", severity="critical", **times)
            )
        part = partial(HealthPart.join, learner)
        service = AutonomousService(learner, parts=[part], clock=clock)
        await service.readings.refresh(ACME, NOON)
        found = []
        for _ in range(4):
            await service._parts[-1].tick(clock.now)
            states = await learner.store.target_states()
            found.append(sum(state.waiting for state in states))
            clock.now += timedelta(minutes=1)
    assert found[0] == 0
    if has_incident:
        assert found == [0, 0, 0, 0]
    else:  # the problems after the second check, the escalation after the third one
        assert 0 < found[1] == found[2] - 1 == found[3] - 1


async def test_a_tenant_with_log_entries_alone_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with create_autonomous_learner(tmp_path) as learner:
        log = tmp_path / "log.jsonl"
        log.write_text(json.dumps(entry(0)))
        await learner.ingest_decisions(ACME, log)
        assert await learner.store.tenants() == [ACME]
        service = AutonomousService(learner, parts=[partial(HealthPart.join, learner)], clock=Clock())
        await service._parts[-1].tick(NOON)
    assert not caplog.records


async def test_the_dashboard_has_the_history(tmp_path: Path) -> None:
    clock = Clock()
    async with create_autonomous_learner(tmp_path, clock=clock) as learner:
        await learner.store.add_turn(judged_turns(1.0, days_ago=1, users=1, each=1)[0])
        made = monitor(learner, clock)
        for value in (0.99, 0.99, 0.1):
            await made.check_system_health({"success_rate": value})
            clock.now += timedelta(minutes=1)
        found = await made.generate_health_dashboard()
    assert [one.system_health for one in found.history][:2] == ["excellent", "critical"]
    assert found.status.checked_at == clock.now


@pytest.mark.parametrize("bad", [{"a": "b"}, {"a": float("nan")}, {"": 1.0}, [1], {"a": True}])
async def test_unusable_metrics_are_refused(tmp_path: Path, bad: object) -> None:
    async with create_autonomous_learner(tmp_path) as learner:
        await learner.store.add_turn(judged_turns(1.0, days_ago=1, users=1, each=1)[0])
        with pytest.raises(InvalidInput):
            await monitor(learner, Clock()).check_system_health(bad)  # type: ignore[arg-type]


def test_the_synchronous_twin_checks(tmp_path: Path) -> None:
    with blocking.create_autonomous_learner(tmp_path) as learner:
        learner.collect_conversation_metadata(ACME, "hello", "good morning", "u1")
    config = AnalysisConfig(home=tmp_path, tenant_id=ACME)
    with blocking.HealthMonitor(config=config) as made:
        assert made.check_system_health().tenant_id == ACME
        assert made.trigger_alerts() == ()


def test_incidents_and_problems_of_serving_are_reasons() -> None:
    times = {"opened_at": NOON, "updated_at": NOON, "next_at": NOON}
    incidents = [
        Incident(tenant_id=tenant_id, type="high_latency", severity="warning", **times).told(
            NOON, "reading", f"words of {tenant_id}"
        )
        for tenant_id in (ACME, None, "other")
    ]
    common = {"limits": Limits(), "now": NOON}
    found = health_of(ACME, {}, incidents=incidents, problems=(), **common)
    assert found.system_health == "needs_attention"
    assert found.components["system"].reasons == ("high latency: words of acme", "high latency of the home")
    failing = HealthProblem(severity="failing", message="the model cannot be loaded", remedy="repair it")
    found = health_of(ACME, {}, incidents=incidents, problems=[failing], **common)
    assert (found.system_health, [alert.level for alert in found.alerts]) == (
        "critical",
        ["warning", "warning", "critical"],
    )
    assert health_of(ACME, {}, incidents=[], problems=[], **common).system_health is None
