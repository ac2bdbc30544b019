"""Readings of snapshots, and their incremental sources."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner import registry
from karen_learner.errors import SettingsError
from karen_learner.memory import open_store
from karen_learner.models.files import HomeLayout
from karen_learner.monitoring.degradation import DegradationDetector
from karen_learner.monitoring.readings import READINGS, Readings, compute, recent
from karen_learner.monitoring.readings.recent import TurnFacts, hashed
from karen_learner.monitoring.readings.sources import MIN_OBSERVATIONS, Resources, Sources
from karen_learner.monitoring.scores import AGENT
from karen_learner.records import (
    ConversationMetadata,
    ModelVersion,
    Outcome,
    Turn,
    UserFeedback,
)
from karen_learner.records.readings import Reading
from karen_learner.settings import load_settings

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
SETTINGS = load_settings()
VERSION = ModelVersion(
    tenant_id="acme", version="v1", path=Path("v1"), digest="d", parent=None, cycle_id=None,
    created_at=NOW - timedelta(days=3),
)  # fmt: skip


def turn(number: int, *, minutes_ago: float | None = None, **values: Any) -> TurnFacts:
    words, features = hashed(values.pop("text", "what is my balance"))
    known: dict[str, Any] = {
        "seq": number,
        "at": NOW - timedelta(minutes=minutes_ago if minutes_ago is not None else 2000 - number),
        "version": "v1",
        "intent": "balance",
        "confidence": 0.9,
        "out_of_scope": False,
        "degraded": False,
        "satisfaction": None,
        "response_quality": None,
        "words": words,
        "features": features,
    }
    return TurnFacts(**(known | values))


def outcomes(scores: Sequence[float], **values: Any) -> list[Outcome]:
    known: dict[str, Any] = {"source": "turn", "agent": AGENT, "version": "v1"}
    start = NOW - timedelta(days=6)
    return [
        Outcome(**(known | values), known_at=start + timedelta(minutes=at), score=score, actual="balance")
        for at, score in enumerate(scores)
    ]


def sources(**values: Any) -> Sources:
    known: dict[str, Any] = {
        "tenant_id": "acme", "now": NOW, "settings": SETTINGS.monitoring, "champion": VERSION,
        "intents": ("balance",),
    }  # fmt: skip
    return Sources(**(known | values))


# Values -----------------------------------------------------------------------------------------


def test_without_observations_no_reading_has_a_value_but_resources() -> None:
    found = compute(READINGS.own, sources(champion=None))
    assert found.keys() == READINGS.own.keys()
    assert {name for name, one in found.items() if one.known} <= {
        "memory", "disk_free", "database_size", "cpu",
    }  # fmt: skip


def test_the_accuracy_is_that_of_the_outcomes_of_the_champion() -> None:
    mixed = outcomes([1.0] * 80 + [0.0] * 20) + outcomes([0.0] * 50, version="v0")
    found = READINGS.own["accuracy"](sources(outcomes=mixed))
    assert found.value == 0.8
    assert found.observations == 100
    assert found.low is not None
    assert found.high is not None
    assert 0.7 < found.low < 0.8 < found.high < 0.9
    assert found.direction == "lower_is_worse"
    assert found.is_below(0.9)
    assert not found.is_below(0.85)
    assert 0.0 < found.false_alarms_per_month < 1.0


@given(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=MIN_OBSERVATIONS, max_size=60))
def test_an_interval_contains_its_value(scores: list[float]) -> None:
    for name in ("accuracy", "correction_rate"):
        found = READINGS.own[name](sources(outcomes=outcomes(scores)))
        assert found.low is not None
        assert found.high is not None
        assert found.value is not None
        assert 0.0 <= found.low <= found.value + 1e-9
        assert found.value - 1e-9 <= found.high <= 1.0


def test_corrections_to_labels_that_gold_lacks_are_unknown_labels() -> None:
    found = READINGS.own["unknown_labels"](sources(outcomes=outcomes([0.0] * 30), intents=("travel",)))
    assert found.value == 1.0


def test_shares_of_turns() -> None:
    mixed = [turn(at, degraded=at % 4 == 0, out_of_scope=at % 4 == 1) for at in range(40)]
    assert READINGS.own["fallback_rate"](sources(turns=mixed)).value == 0.25
    assert READINGS.own["out_of_scope_rate"](sources(turns=mixed)).value == pytest.approx(10 / 30)


def test_the_latency_is_the_95_percent_quantile() -> None:
    timed = [
        Outcome(source="agent_run", agent="a", duration_ms=float(at), known_at=NOW) for at in range(1, 1001)
    ]
    found = READINGS.own["latency"](sources(outcomes=timed))
    assert found.value == pytest.approx(951, abs=1)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 951 < found.high


def test_a_source_is_silent_after_twice_its_longest_gap() -> None:
    regular = [turn(at, minutes_ago=200 - at) for at in range(180)]
    found = READINGS.own["silent_source"](sources(turns=regular))
    assert found.alarm is True
    assert found.observations == 179
    assert (
        READINGS.own["silent_source"](replace(sources(turns=regular), now=NOW - timedelta(minutes=19))).alarm
        is False
    )


def test_another_distribution_of_labels_is_found() -> None:
    same = [turn(at, intent="ab"[at % 2]) for at in range(200)]
    assert READINGS.own["label_distribution"](sources(turns=same)).alarm is False
    changed = [turn(at, intent="a" if at < 100 or at % 3 == 0 else "b") for at in range(200)]
    found = READINGS.own["label_distribution"](sources(turns=changed))
    assert found.alarm is True
    assert found.detail["label"] in ("a", "b")
    assert found.value == pytest.approx(2 / 3, abs=0.02)


def test_a_lasting_rise_of_errors_is_a_degradation_and_one_e_value_is_the_mean_of_all_agents() -> None:
    randoms = random.Random(1)
    worse, steady = DegradationDetector(), DegradationDetector()
    for detector, rate in ((worse, 0.5), (steady, 0.1)):
        detector.update_all(float(randoms.random() < 0.1) for _ in range(1000))
        detector.update_all(float(randoms.random() < rate) for _ in range(300))
    found = READINGS.own["degradation"](
        sources(detectors={"a": worse, "b": steady}, outcomes=outcomes([1.0] * 50))
    )
    assert found.alarm is True
    assert found.detail["agent"] == "a"
    assert found.value == pytest.approx((worse.evidence + steady.evidence) / 2)
    assert 0.0 < found.false_alarms_per_month < 0.1


def test_operation_is_exact() -> None:
    found = compute(READINGS.own, sources(resources=Resources(memory=5, disk_free=7, disk_size=9, cpu=0.5)))
    assert found["freshness"].value == pytest.approx(3.0)
    assert found["memory"].value == 5
    assert found["disk_free"].low == found["disk_free"].high == 7
    assert found["disk_free"].reference == 9


def drawn(number: int, words: str, *, seed: int) -> list[TurnFacts]:
    chosen = random.Random(seed)
    return [turn(at, text=" ".join(chosen.choices(words.split(), k=6))) for at in range(number)]


BANK = "what is my balance please show account money card bank statement today now the a of for in on"
TRAVEL = "what is my flight please show hotel train city trip passport today now the a of for in on"


def test_other_texts_are_drift_with_new_words() -> None:
    found = compute(READINGS.own, sources(turns=drawn(300, BANK, seed=1) + drawn(150, TRAVEL, seed=2)))
    assert found["input_drift"].alarm is True
    assert found["input_drift"].value is not None
    assert found["input_drift"].value > 0.7
    assert found["input_drift"].detail["direction"] == "new words"
    assert found["vocabulary"].alarm is True


def test_the_same_texts_are_no_drift() -> None:
    alarms = 0
    for seed in range(10):
        found = compute(READINGS.own, sources(turns=drawn(300, BANK, seed=seed)))
        alarms += bool(found["input_drift"].alarm) + bool(found["vocabulary"].alarm)
    assert alarms <= 1


def test_drift_is_compared_again_after_a_minute_with_half_a_sample_of_new_turns() -> None:
    kept: dict[str, Any] = {}

    def drift(turns: Any, turn_count: int, at: datetime) -> Reading:
        return READINGS.own["input_drift"](sources(turns=turns, turn_count=turn_count, kept=kept, now=at))

    before = drift(drawn(300, BANK, seed=1), 300, NOW)
    changed = drawn(300, BANK, seed=1) + drawn(150, TRAVEL, seed=2)
    later = NOW + timedelta(minutes=1)
    assert drift(changed, 449, later).value == drift(changed, 450, NOW).value == before.value
    assert drift(changed, 450, later).alarm is True


def test_the_estimated_accuracy_is_the_mean_confidence_in_scope() -> None:
    turns = [turn(at, confidence=0.6 if at % 2 else 1.0, out_of_scope=at % 10 == 0) for at in range(200)]
    found = READINGS.own["estimated_accuracy"](sources(turns=turns, outcomes=outcomes([1.0, 0.0] * 10)))
    assert found.value == pytest.approx((80 * 1.0 + 100 * 0.6) / 180)
    assert found.detail == {"out_of_scope": 20, "measured": 0.5, "outcomes": 20}
    assert found.low is not None
    assert found.low < found.value


def test_a_growing_kind_of_error_is_named() -> None:
    fine = outcomes([1.0] * 90 + [0.0] * 10, predicted="travel")
    worse = outcomes([1.0] * 70 + [0.0] * 30, predicted="travel")
    found = READINGS.own["error_pattern"](sources(outcomes=fine + worse))
    assert found.alarm is True
    assert found.detail["kind"] == "travel instead of balance"
    assert READINGS.own["error_pattern"](sources(outcomes=fine + fine)).alarm is False
    assert READINGS.own["error_pattern"](sources(outcomes=outcomes([1.0] * 100))).value == 0.0


# The registry -----------------------------------------------------------------------------------


def test_an_unknown_reading_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"unknown reading 'aura'.*accuracy, correction_rate"):
        READINGS.find_all(["aura"])


def test_a_host_adds_a_reading_and_a_failing_one_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    here = EntryPoint("mine", f"{__name__}:broken", READINGS.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: [here])
    monkeypatch.setattr(EntryPoint, "load", lambda entry: broken)
    assert set(compute(READINGS.find_all(["mine", "cpu"]), sources())) == {"cpu"}


def broken(_: Sources) -> Any:
    raise ZeroDivisionError


# Incremental sources ----------------------------------------------------------------------------


def stored_turn(number: int, feedback: UserFeedback | None = None) -> Turn:
    metadata = ConversationMetadata(
        conversation_id="c", turn_id=f"t{number}", tenant_id="acme", user_id="u", intent_detected="travel",
        intent_confidence=0.9, sentiment_detected=None, sentiment_confidence=0.0, persona_selected="p",
        user_satisfaction=None, response_quality=None, entities_extracted=(), linguistic_features={},
        feedback_provided=feedback is not None, correction_needed=False, degraded=False,
        model_version=None, occurred_at=NOW - timedelta(minutes=number),
    )  # fmt: skip
    return Turn(metadata=metadata, user_text=f"text {number}", assistant_response="yes", feedback=feedback)


async def test_rows_are_read_once_and_late_feedback_becomes_an_outcome(tmp_path: Path) -> None:
    settings = load_settings(overrides={"monitoring.recent_turns": 30})
    layout = HomeLayout(tmp_path, settings.paths)
    async with open_store(":memory:", settings.store) as store:
        for number in range(40):
            await store.add_turn(stored_turn(number))
        reader = Readings(store, layout, settings)
        assert reader.latest("acme") == {}
        found = await reader.refresh("acme", NOW)
        assert found["fallback_rate"].observations == 30  # bounded

        for number in range(40):
            intent = "travel" if number % 2 else "balance"
            await store.add_feedback("acme", f"t{number}", UserFeedback(corrected_intent=intent))
        await store.add_turn(stored_turn(99, UserFeedback(corrected_intent="travel")))
        for _ in range(2):
            found = await reader.refresh("acme", NOW)
        assert found["accuracy"].observations == 41
        assert found["accuracy"].value == pytest.approx(21 / 41)
        assert found == reader.latest("acme")

        again = await Readings(store, layout, settings).refresh("acme", NOW)
        assert again["accuracy"] == found["accuracy"]

        later = await reader.refresh("acme", NOW + timedelta(days=8))
        assert later["accuracy"].observations == 0
        assert later["fallback_rate"].observations == 0


async def test_late_feedback_on_old_turns_is_searched_each_few_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "NEAR_REACH", 2)
    async with open_store(":memory:", SETTINGS.store) as store:
        for number in range(10):
            await store.add_turn(stored_turn(number))
        reader = Readings(store, HomeLayout(tmp_path, SETTINGS.paths), SETTINGS)
        await reader.refresh("acme", NOW)
        for number in (1, 9):
            await store.add_feedback("acme", f"t{number}", UserFeedback(corrected_intent="travel"))
        await reader.refresh("acme", NOW)
        assert {one.task_id for one in reader.newest_outcomes("acme")} == {"t9"}
        for jump in (timedelta(days=-1), timedelta(days=1)):  # also after a clock jump
            await reader.refresh("acme", NOW + jump)
        assert {one.task_id for one in reader.newest_outcomes("acme")} == {"t1", "t9"}


async def test_a_page_of_outcomes_continues_where_the_last_one_stopped() -> None:
    made = outcomes([0.0, 0.5, 1.0])
    async with open_store(":memory:", SETTINGS.store) as store:
        await store.add_outcomes("acme", made)
        await store.add_outcomes("other", outcomes([1.0]))
        newest = await store.outcome_page("acme", limit=2)
        assert [one.score for _, one in newest] == [0.5, 1.0]
        first = await store.outcome_page("acme", limit=1, after=0)
        assert [one.score for _, one in first] == [0.0]
        rest = await store.outcome_page("acme", limit=9, after=first[0][0])
        assert [one for _, one in rest] == made[1:]
