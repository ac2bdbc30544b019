"""`AutomatedLearningSystem`: measures, reactions, a host's model, and its twin for synchronous code."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from karen_learner import AutomatedLearningSystem
from karen_learner import blocking as synchronous
from karen_learner.autonomy.host_models import HostModelUpdater
from karen_learner.autonomy.learning_settings import LearningSystemSettings, read_learning_settings
from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.memory import open_store
from karen_learner.settings import load_settings
from tests.autonomy.conftest import FastClock

HOUR = 3_600.0


class HostModel:
    """A model of a host with a given accuracy."""

    def __init__(self, accuracy: float = 0.9, *, has_data: bool = True) -> None:
        self.accuracy = accuracy
        self.has_data = has_data
        self.trainings = 0

    def has_sufficient_data(self) -> bool:
        return self.has_data

    def train_model(self) -> None:
        self.trainings += 1

    async def validate_model(self) -> float:
        return self.accuracy


def attempts(system: AutomatedLearningSystem, right: int, wrong: int, **more: Any) -> None:
    """Attempts whose failures are spread evenly."""
    total = right + wrong
    for number in range(total):
        success = number * right // total < (number + 1) * right // total
        strategy, domain = more.get("strategy", "llm"), more.get("domain", "billing")
        system.record_attempt(success, strategy, domain, None if success else "timeout")


def test_settings_have_the_documented_names_and_defaults(tmp_path: Path) -> None:
    defaults = {
        "training_frequency": 3600.0,
        "performance_threshold": 0.15,
        "auto_retrain_trigger": 0.10,
        "consecutive_failures_threshold": 5,
        "enable_auto_troubleshooting": True,
        "enable_strategy_optimization": True,
        "enable_model_retraining": True,
        "performance_alert_threshold": 0.05,
    }
    assert LearningSystemSettings().to_dict() == defaults
    file = tmp_path / "learning.json"
    file.write_text(json.dumps({"training_frequency": 60, "enable_model_retraining": False}))
    read = read_learning_settings(file)
    assert (read.training_frequency, read.enable_model_retraining) == (60.0, False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"training_frequenzy": 1}, "did you mean 'training_frequency'"),
        ({"training_frequency": 0}, "training_frequency"),
        ({"training_frequency": math.nan}, "training_frequency"),
        ({"performance_threshold": 1.5}, "performance_threshold"),
        ({"auto_retrain_trigger": 0.5}, "auto_retrain_trigger, and this at most performance_threshold"),
        ({"consecutive_failures_threshold": 0}, "consecutive_failures_threshold"),
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        AutomatedLearningSystem(settings=given)


@pytest.mark.parametrize("content", ["[1]", "{", ""])
def test_files_that_are_no_settings_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "learning.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"learning\.json"):
        AutomatedLearningSystem(settings=file)


def test_it_analyses_attempts() -> None:
    system = AutomatedLearningSystem(seed=0)
    assert system.analyze_performance()["current_success_rate"] is None
    attempts(system, 40, 160)
    attempts(system, 180, 20, strategy="spacy", domain="travel")
    found = system.analyze_performance()
    assert found["current_success_rate"] == pytest.approx(0.9, abs=0.01)
    assert found["strategy_performance"]["llm"]["success_rate"] == 0.2
    assert found["domain_performance"]["travel"]["attempts"] == 200
    assert [(one.error_type, one.domain, one.count) for one in found.error_patterns] == [
        ("timeout", "billing", 160),
        ("timeout", "travel", 20),
    ]
    assert "timeout in billing: " in found.error_patterns[0].rule
    assert found["performance_trend"] == "improving"
    assert found["improvement_rate"] == pytest.approx(0.7)
    assert found["training_frequency"].trainings == 0
    assert system.monitor.get_system_metrics().by_domain["travel"].success_rate == 0.9


def test_few_attempts_have_no_trend_and_equal_ones_are_stable() -> None:
    system = AutomatedLearningSystem(seed=0)
    attempts(system, 5, 5)
    assert system.analyze_performance().performance_trend == "unknown"
    attempts(system, 50, 50)
    assert system.analyze_performance().performance_trend == "stable"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((True, "", "billing"), "strategy"),
        ((True, "llm", "x" * 1_000_000), "domain"),
        ((True, "llm", "billing", "x" * 201), "error_type"),
    ],
)
def test_impossible_attempts_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    system = AutomatedLearningSystem()
    with pytest.raises(InvalidInput, match=message):
        system.record_attempt(*arguments)
    with pytest.raises(InvalidInput, match="duration_ms"):
        system.record_attempt(True, "llm", "billing", duration_ms=math.inf)
    assert system.analyze_performance().attempts == 0


def test_failures_in_a_row_choose_another_strategy(clock: FastClock) -> None:
    system = AutomatedLearningSystem(clock=clock, seed=0)
    attempts(system, 30, 0)
    attempts(system, 20, 10, strategy="spacy")
    for _ in range(5):
        system.record_attempt(False, "llm", "billing", "timeout")
    assert {system.recommend("billing").strategy for _ in range(20)} == {"spacy"}
    assert system.analyze_performance().reactions[-1].act == "use 'spacy' in domain 'billing'"
    clock.move(HOUR + 1)
    assert system.strategies("billing")[0].strategy == "llm"


async def test_a_low_success_rate_retrains_the_model_and_calls_the_troubleshooter(
    clock: FastClock,
) -> None:
    calls: list[str] = []

    class Troubleshooter:
        async def diagnose_and_fix(self) -> None:
            calls.append("diagnosed")

    model = HostModel()
    system = AutomatedLearningSystem(model=model, troubleshooter=Troubleshooter(), clock=clock, seed=0)
    attempts(system, 3, 97)
    assert await system.tick() == ()
    clock.move(HOUR)
    acts = [one.act for one in await system.tick()]
    assert "alert" in acts
    assert "retrain" in acts
    assert "troubleshoot" in acts
    assert system._retraining is not None
    await system._retraining
    assert (model.trainings, calls) == (1, ["diagnosed"])
    found = system.analyze_performance()
    assert found.reactions[-1].act == "retrained"
    assert (found.training_frequency.trainings, found.training_frequency.last_at) == (1, clock())


async def test_enough_successes_cause_no_reaction(clock: FastClock) -> None:
    model = HostModel()
    system = AutomatedLearningSystem(model=model, clock=clock, seed=0)
    attempts(system, 50, 50)
    clock.move(HOUR)
    assert await system.tick() == ()
    assert model.trainings == 0


@pytest.mark.parametrize(
    ("accuracy", "has_data", "success", "trainings"),
    [
        (0.9, True, True, 1),
        (0.7, True, False, 1),
        (math.nan, True, False, 1),
        (1.5, True, False, 1),
        (0.9, False, False, 0),
    ],
)
async def test_a_model_of_the_host_is_accepted_above_a_threshold(
    accuracy: float, has_data: bool, success: bool, trainings: int
) -> None:
    model = HostModel(accuracy, has_data=has_data)
    result = await HostModelUpdater(model).retrain(reason="test")
    assert (result.success, model.trainings, result.reason) == (success, trainings, "test")
    assert result.model_type == "host_model"
    forced = await HostModelUpdater(model).retrain(reason="test", force_full_retrain=True)
    assert (forced.retrain_type, model.trainings) == ("full", trainings + 1)


async def test_attempts_survive_a_restart(tmp_path: Path) -> None:
    for number in (1, 2):
        async with open_store(tmp_path / "karen.db", load_settings().store) as store:
            system = AutomatedLearningSystem(store=store, seed=0)
            async with system:
                choice = system.recommend("billing")
                system.record_attempt(True, choice.strategy, "billing", choice_id=choice.choice_id)
                assert system.analyze_performance().attempts == number
                assert system.running
            assert not system.running
            await system.stop_automated_learning()
            assert system.strategies("billing")[0].successes == pytest.approx(number, abs=0.01)


async def test_the_propensity_of_a_choice_is_stored(tmp_path: Path) -> None:
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        async with AutomatedLearningSystem(store=store, seed=0) as system:
            system.record_attempt(True, "llm", "billing")
            choice = system.recommend("billing")
            system.record_attempt(False, "llm", "billing", "timeout", choice_id=choice.choice_id)
        found = await store.newest_outcomes("default", since=FastClock().now.replace(year=2000), limit=9)
    assert [(one.source, one.propensity, one.error_type) for one in found] == [
        ("attempt", None, None),
        ("attempt", choice.propensity, "timeout"),
    ]


async def test_a_failing_troubleshooter_does_not_end_the_system(
    clock: FastClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karen_learner.autonomy.learning_system.INTERVAL_S", 0.01)
    called = asyncio.Event()

    class Broken:
        def diagnose_and_fix(self) -> None:
            called.set()
            raise RuntimeError("broken")

    async with AutomatedLearningSystem(troubleshooter=Broken(), clock=clock, seed=0) as system:
        attempts(system, 2, 98)
        clock.move(HOUR)
        await called.wait()
        await asyncio.sleep(0.05)
        assert system.running


def test_synchronous_code_uses_the_twin() -> None:
    model = HostModel()
    with synchronous.AutomatedLearningSystem(model=model, seed=0) as system:
        choice = system.recommend("billing")
        system.record_attempt(True, choice.strategy, "billing", choice_id=choice.choice_id)
        assert system.running
        assert system.analyze_performance().current_success_rate == 1.0
        assert system.tick() == ()
    assert not system.running
    assert not synchronous.automated_learning_system.running
