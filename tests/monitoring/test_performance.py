"""The performance monitor, alone and with a learner."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from karen_learner import PerformanceMonitor, init_performance_monitor
from karen_learner import blocking as synchronous
from karen_learner.contracts import OutcomeStore
from karen_learner.errors import InvalidInput
from karen_learner.learner import AutonomousLearner
from karen_learner.memory import open_store
from karen_learner.monitoring import outcome_queue
from karen_learner.monitoring.thresholds import MIN_OBSERVATIONS
from karen_learner.records import Alert, Outcome, RetrainingResult
from karen_learner.settings import StoreSettings, load_settings

ACME = "acme"
EARLY = datetime(2000, 1, 1, tzinfo=timezone.utc)


def run(monitor: PerformanceMonitor, count: int, *, status: str = "success", **more: Any) -> None:
    for number in range(count):
        monitor.record_agent_run(
            f"run {number}", "planner", "llm", status, 120.0, tokens_used=5, cost=0.01, **more
        )


def answer(monitor: PerformanceMonitor, count: int, actual: str, *, predicted: str = "travel") -> None:
    for number in range(count):
        monitor.record_accuracy("router", f"task {number}", predicted, actual, "user")


@pytest.fixture
def store_settings() -> StoreSettings:
    return load_settings().store


class Updater:
    """A model updater that counts its calls."""

    def __init__(self, *, success: bool = True) -> None:
        self.reasons: list[str] = []
        self.success = success

    async def retrain(self, *, reason: str, force_full_retrain: bool = False) -> RetrainingResult:
        self.reasons.append(reason)
        kind = "full" if force_full_retrain else "incremental"
        return RetrainingResult(success=self.success, model_type="mine", retrain_type=kind, reason=reason)


# Measures ---------------------------------------------------------------------------------------


def test_it_measures_without_a_learner_and_without_a_loop() -> None:
    monitor = PerformanceMonitor()
    run(monitor, 30, domain="billing", strategy="llm")
    run(monitor, 10, status="failed", error_type="timeout")
    run(monitor, 5, status="cancelled")
    answer(monitor, 40, "travel")
    metrics = monitor.get_system_metrics()
    assert (metrics.outcomes, metrics.attempts) == (85, 40)
    assert (metrics.success_rate, metrics.error_rate, metrics.avg_accuracy) == (0.75, 0.25, 1.0)
    assert metrics.latency_p95_ms == pytest.approx(120.0, rel=0.03)
    assert (metrics.tokens, metrics.cost) == (225, pytest.approx(0.45))
    assert metrics.by_agent["planner"].outcomes == 45
    assert metrics.by_domain["billing"].success_rate == 1.0
    stats = monitor.get_stats()
    assert (stats["recorded"], stats["dropped"], stats["waiting"]) == (85, 0, 0)
    assert (stats["running"], stats["auto_retraining_enabled"], stats["model_updater_connected"]) == (
        False,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "fine"}, "unknown status 'fine'"),
        ({"duration_ms": math.nan}, "duration_ms must be a finite number"),
        ({"cost": math.inf}, "cost must be a finite number"),
        ({"cost": -1.0}, "cost must be a finite number"),
        ({"tokens_used": -1}, "tokens_used"),
        ({"agent_name": "x" * 1_000_000}, "agent_name must be a text of 1 to 200 characters"),
        ({"agent_name": ""}, "agent_name must be a text"),
        ({"run_id": ""}, "run_id must have"),
        ({"domain": "x" * 201}, "domain must be a text"),
    ],
)
def test_impossible_runs_are_refused(changes: dict[str, Any], message: str) -> None:
    monitor = PerformanceMonitor()
    values: dict[str, Any] = {
        "run_id": "1", "agent_name": "a", "agent_type": "b", "status": "success", "duration_ms": 1.0,
    }  # fmt: skip
    with pytest.raises(InvalidInput, match=message):
        monitor.record_agent_run(**{**values, **changes})
    assert monitor.get_stats()["recorded"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_size_minutes": 0}, "window_size_minutes must be at least 1"),
        ({"alert_thresholds": {"accuracy_min": 1.5}}, "accuracy_min must be a number of 0 to 1"),
        ({"alert_thresholds": {"acuracy_min": 0.5}}, "unknown threshold 'acuracy_min'"),
        ({"alert_thresholds": {"latency_p95_max_ms": math.nan}}, "latency_p95_max_ms"),
        ({"tenant_id": ""}, "tenant_id"),
    ],
)
def test_impossible_monitors_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        PerformanceMonitor(**arguments)


def test_a_full_queue_drops_outcomes_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome_queue, "MAX_WAITING", 10)
    monitor = PerformanceMonitor()
    run(monitor, 25)
    assert (monitor.get_stats()["recorded"], monitor.get_stats()["dropped"]) == (25, 15)
    assert monitor.get_system_metrics().outcomes == 10


# Alerts -----------------------------------------------------------------------------------------


def test_an_alert_is_raised_once_until_its_threshold_is_kept() -> None:
    monitor = PerformanceMonitor(alert_thresholds={"success_rate_min": 0.5})
    run(monitor, 30, status="failed", error_type="timeout")
    new = monitor.check()
    assert {(one.reading, one.level) for one in new} == {
        ("success_rate", "critical"),
        ("error_rate", "critical"),
    }
    assert monitor.check() == ()
    run(monitor, 300)
    assert monitor.check() == ()
    run(monitor, 600, status="error")
    assert {one.reading for one in monitor.check()} == {"success_rate", "error_rate"}
    assert len(monitor.get_alerts()) == 4
    assert len(monitor.get_alerts(limit=1)) == 1
    with pytest.raises(InvalidInput):
        monitor.get_alerts(limit=-1)


def test_few_outcomes_raise_no_alert() -> None:
    monitor = PerformanceMonitor()
    run(monitor, MIN_OBSERVATIONS - 1, status="failed")
    assert monitor.check() == ()


def test_degradation_is_found_above_the_threshold() -> None:
    monitor = PerformanceMonitor(alert_thresholds={"accuracy_min": 0.5})
    answer(monitor, 1000, "travel")
    assert monitor.check() == ()
    for _ in range(150):
        answer(monitor, 1, "balance")
        answer(monitor, 1, "travel")
    (alert,) = monitor.check()
    assert (alert.reading, alert.level) == ("degradation", "critical")
    assert alert.details["of"] == "agent 'router'"
    assert "the accuracy has fallen" in monitor.generate_report().recommendations[-1]


def test_a_report_explains_its_score() -> None:
    monitor = PerformanceMonitor()
    assert monitor.generate_report().health_score is None
    run(monitor, 30)
    answer(monitor, 10, "travel")
    assert monitor.generate_report().health_score == 100.0
    run(monitor, 30, status="failed")
    report = monitor.generate_report(include_agents=False)
    assert report.metrics.by_agent == {}
    points = {part.reading: part.points for part in report.parts}
    assert points == {
        "avg_accuracy": 100.0,
        "success_rate": pytest.approx(62.5),
        "error_rate": pytest.approx(30.0),
        "latency_p95_ms": 100.0,
    }
    assert report.health_score == pytest.approx(sum(points.values()) / 4)
    assert len(report.recommendations) == 2
    assert report.to_dict()["health_score"] == report.health_score


# Storing ----------------------------------------------------------------------------------------


async def test_outcomes_survive_a_restart(tmp_path: Path, store_settings: StoreSettings) -> None:
    async with open_store(tmp_path / "karen.db", store_settings) as store:
        async with PerformanceMonitor(store=store) as monitor:
            run(monitor, 30, domain="billing")
            answer(monitor, 20, "balance")
        assert monitor.get_stats()["stored"] == 50
        assert not monitor.running
        async with PerformanceMonitor(store=store) as again:
            metrics = again.get_system_metrics()
            assert (metrics.outcomes, metrics.success_rate, metrics.avg_accuracy) == (50, 1.0, 0.0)
            assert metrics.by_domain["billing"].outcomes == 30
        async with PerformanceMonitor(store=store, tenant_id="other") as other:
            assert other.get_system_metrics().outcomes == 0


async def test_a_stop_stores_all_batches(
    tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_queue, "STORE_BATCH", 10)
    async with open_store(tmp_path / "karen.db", store_settings) as store:
        async with PerformanceMonitor(store=store) as monitor:
            run(monitor, 35)
        assert monitor.get_stats()["stored"] == 35
        assert len(await newest(store)) == 35


async def test_the_queue_of_the_store_is_bounded(
    tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_queue, "MAX_UNSTORED", 10)
    async with open_store(tmp_path / "karen.db", store_settings) as store:
        monitor = PerformanceMonitor(store=store)
        run(monitor, 25)
        assert monitor.get_system_metrics().outcomes == 25
        await monitor.start()
        await monitor.stop()
        stats = monitor.get_stats()
        assert (stats["stored"], stats["not_stored"]) == (10, 15)


async def test_long_predictions_are_not_stored(tmp_path: Path, store_settings: StoreSettings) -> None:
    async with open_store(tmp_path / "karen.db", store_settings) as store:
        async with PerformanceMonitor(store=store) as monitor:
            assert monitor.record_accuracy("a", "1", "x" * 2000, "x" * 2000, "user") == 1.0
            monitor.record_accuracy("a", "2", {1, 2}, {1, 2}, "user")
        assert [(one.predicted, one.score) for one in await newest(store)] == [(None, 1.0), (None, 1.0)]


async def newest(store: OutcomeStore, tenant_id: str = "default") -> list[Outcome]:
    return list(await store.newest_outcomes(tenant_id, since=EARLY, limit=100))


# Retraining -------------------------------------------------------------------------------------


async def test_an_updater_retrains_on_request() -> None:
    updater = Updater()
    monitor = PerformanceMonitor(model_updater=updater)
    result = await monitor.trigger_retraining(force_full_retrain=True)
    assert (result.success, result.model_type, result.retrain_type) == (True, "mine", "full")
    assert result.reason == "Manual trigger"
    assert monitor.get_stats()["retrainings"] == 1


async def test_without_updater_and_learner_nothing_is_retrained() -> None:
    result = await PerformanceMonitor().trigger_retraining("why not")
    assert (result.success, result.retrain_type, result.reason) == (False, "none", "why not")
    assert result.message is not None


@pytest.mark.parametrize("success", [True, False])
async def test_an_alert_about_the_accuracy_requests_one_retraining(success: bool) -> None:
    updater = Updater(success=success)
    monitor = await init_performance_monitor(model_updater=updater, enable_auto_retraining=True)
    answer(monitor, 40, "balance")
    assert "avg_accuracy" in {one.reading for one in monitor.check()}
    await asyncio.wait_for(retrained(monitor), 10)
    assert len(updater.reasons) == 1
    assert updater.reasons[0].startswith("alert: all agents: avg_accuracy 0 is below 0.7")
    assert monitor.get_alerts(1)[0].level == ("info" if success else "warning")
    answer(monitor, 400, "travel")
    monitor.check()
    answer(monitor, 4000, "balance")
    monitor.check()
    await asyncio.sleep(0)
    assert len(updater.reasons) == 1, "the cool-down has not ended"
    await monitor.stop()


async def retrained(monitor: PerformanceMonitor) -> None:
    while not any(one.reading == "retraining" for one in monitor.get_alerts()):
        await asyncio.sleep(0.01)


async def test_an_updater_that_fails_is_an_alert() -> None:
    class Failing(Updater):
        async def retrain(self, *, reason: str, force_full_retrain: bool = False) -> RetrainingResult:
            raise RuntimeError("my secret text")

    async with PerformanceMonitor(model_updater=Failing(), enable_auto_retraining=True) as monitor:
        answer(monitor, 40, "balance")
        monitor.check()
        await asyncio.wait_for(retrained(monitor), 10)
        alert = monitor.get_alerts(1)[0]
    assert alert.level == "critical"
    assert "secret" not in alert.message


async def test_a_monitor_that_stops_during_a_retraining_lets_it_end() -> None:
    class Slow(Updater):
        may_end = asyncio.Event()

        async def retrain(self, *, reason: str, force_full_retrain: bool = False) -> RetrainingResult:
            await self.may_end.wait()
            return await super().retrain(reason=reason, force_full_retrain=force_full_retrain)

    updater = Slow()
    monitor = await init_performance_monitor(model_updater=updater, enable_auto_retraining=True)
    answer(monitor, 40, "balance")
    monitor.check()
    await asyncio.sleep(0)
    await monitor.stop()
    assert (updater.reasons, monitor.running) == ([], False)
    updater.may_end.set()
    await asyncio.wait_for(retrained(monitor), 60)
    assert len(updater.reasons) == 1
    assert monitor.get_alerts(1)[0].level == "info"


# With a learner ---------------------------------------------------------------------------------


async def test_feedback_on_turns_is_measured_and_a_cycle_retrains(acme: AutonomousLearner) -> None:
    async with PerformanceMonitor(acme, tenant_id=ACME) as monitor:
        for number in range(15):
            await acme.collect_conversation_metadata(
                ACME, f"what is my balance number {number}", "ok", f"user {number}",
                {"corrected_intent": "travel"} if number % 3 == 0 else {"satisfaction_score": 1.0},
            )  # fmt: skip
        await acme.collect_conversation_metadata(ACME, "hello", "ok", "user 1")
        await acme.events.drain()
        metrics = monitor.get_system_metrics()
        assert (metrics.outcomes, metrics.scored) == (15, 15)
        assert metrics.avg_accuracy == pytest.approx(10 / 15)
        assert set(metrics.by_strategy) == {"model"}
        result = await monitor.trigger_retraining("enough")
        assert (result.model_type, result.reason) == ("language_understanding", "enough")
        assert (result.retrain_type, result.events_processed) == ("incremental", 15)
        assert (await acme.history(ACME, limit=1))[0].reason == "enough"
    stored = await newest(acme.store, ACME)
    assert len(stored) == 15
    assert not any("balance number" in str(one.to_dict()) for one in stored)


async def test_a_failed_request_is_a_result(acme: AutonomousLearner) -> None:
    monitor = PerformanceMonitor(acme, tenant_id="nobody")
    result = await monitor.trigger_retraining()
    assert (result.success, result.retrain_type) == (False, "none")
    assert "nobody" in (result.message or "")


def test_the_synchronous_monitor(tmp_path: Path) -> None:
    with synchronous.PerformanceMonitor(model_updater=Updater(), window_size_minutes=5) as monitor:
        for number in range(30):
            monitor.record_agent_run(f"run {number}", "planner", "llm", "failed", 10.0)
        assert monitor.get_system_metrics().success_rate == 0.0
        alerts: tuple[Alert, ...] = monitor.check()
        assert {one.reading for one in alerts} == {"success_rate", "error_rate"}
        assert monitor.trigger_retraining("now").success
        assert monitor.get_stats()["running"] is True


class Incomparable:
    """A value of a host whose comparison fails."""

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]


def test_values_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be compared: ZeroDivisionError"):
        PerformanceMonitor().record_accuracy("router", "task", Incomparable(), Incomparable(), "user")


def test_thresholds_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(InvalidInput, match="alert_thresholds is a mapping"):
        PerformanceMonitor(alert_thresholds="accuracy_min")  # type: ignore[arg-type]
