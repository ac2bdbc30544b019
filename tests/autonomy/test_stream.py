"""`RealTimeModelUpdater` without Kafka: the inbox, processing, the training of the chooser, learners."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from karen_learner import PerformanceMonitor, RealTimeModelUpdater, UpdateStrategy
from karen_learner import blocking as synchronous
from karen_learner.autonomy.stream.events import SCHEMA_FILE, event_schema, read_event
from karen_learner.curation.selection import SAMPLERS
from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.learner import AutonomousLearner
from karen_learner.memory import open_store
from karen_learner.records.stream import InboxEvent
from karen_learner.settings import load_settings
from tests.autonomy.conftest import FastClock

EARLY = datetime(2000, 1, 1, tzinfo=timezone.utc)


def event(number: int = 0, **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "agent_name": "llm", "domain": "billing", "success": True} | more


def updater(folder: Path, **more: Any) -> RealTimeModelUpdater:
    return RealTimeModelUpdater(model_storage_path=folder, batch_timeout_seconds=0.05, **more)


# Events -----------------------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_records() -> None:
    assert json.loads(SCHEMA_FILE.read_text("utf-8")) == event_schema()
    jsonschema.Draft202012Validator.check_schema(event_schema())


VALUES = st.one_of(st.none(), st.booleans(), st.floats(-1, 2), st.text(max_size=3), st.integers(-1, 9))


@given(
    st.dictionaries(
        st.sampled_from(
            ["agent_name", "success", "score", "cost", "domain", "tokens_used", "event_id", "odd"]
        ),
        VALUES,
    )
)
@example({"agent_name": "a", "success": True})
@example({"agent_name": "a", "success": 1})
@example({"agent_name": "a", "score": "0.5"})
@example({"agent_name": "a", "success": None})
@example({"agent_name": "a", "actual_outcome": None, "predicted_outcome": 1})
@example({"agent_name": "a", "turn": {"user_text": "hi", "user_id": "ann"}})
@example({"agent_name": "a", "turn": {"user_text": "hi"}})
def test_records_and_schema_accept_the_same_events(values: dict[str, Any]) -> None:
    fits = jsonschema.Draft202012Validator(event_schema()).is_valid(values)
    try:
        read_event(json.dumps(values).encode())
    except InvalidInput:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"[1]", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[" * 5_000, "malformed"),
        (b'{"agent_name": "' + b"x" * 300_000 + b'"}', "300,018 bytes, more than the 262,144 allowed"),
        ({"agent_name": "a"}, "needs one of success"),
        ({"agent_name": "a", "success": True, "cost": float("nan")}, "cost"),
        ({"agent_name": "a", "success": True, "cost": float("inf")}, "cost"),
        ({"agent_name": "x" * 201, "success": True}, "agent_name"),
        ({"agent_name": "a", "success": True, "secret key": 1}, "secret key: Extra inputs"),
        ({"agent_name": "a", "success": True, "occurred_at": "2030-01-01"}, "occurred_at"),
        ({"agent_name": "a", "success": object()}, "no JSON"),
        ({"agent_name": "a", "success": True, "predicted_outcome": "x" * 300_000}, "more than the 262,144"),
    ],
)
def test_malformed_events_are_refused_with_the_reason(raw: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_event(raw)


def test_the_reason_does_not_quote_values() -> None:
    with pytest.raises(InvalidInput) as raised:
        read_event({"agent_name": "a", "success": "my secret", "score": "other secret"})
    assert "secret" not in str(raised.value)


# The inbox --------------------------------------------------------------------------------------


async def test_an_event_is_stored_once_and_becomes_an_outcome(tmp_path: Path) -> None:
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        async with updater(tmp_path, store=store, tenant_id="acme") as one:
            for number in (0, 1, 0, 1, 1):
                assert await one.submit(event(number, cost=0.5)) == f"id:e{number}"
            await one.submit({"agent_name": "llm", "predicted_outcome": "a", "actual_outcome": "b"})
            await one.submit({"agent_name": "llm", "predicted_outcome": "a", "actual_outcome": "b"})
        metrics = one.get_metrics()
        assert (metrics.events_received, metrics.duplicates, metrics.events_processed) == (4, 3, 4)
        assert (metrics.event_buffer_size, metrics.event_buffer_capacity, metrics.waiting) == (4, 100, 0)
        found = await store.newest_outcomes("acme", since=EARLY, limit=10)
        assert [(one.agent, one.success, one.score, one.cost) for one in found] == [
            ("llm", True, None, 0.5),
            ("llm", True, None, 0.5),
            ("llm", None, 0.0, 0.0),
            ("llm", None, 0.0, 0.0),
        ]
        assert await store.newest_outcomes("default", since=EARLY, limit=10) == []


async def test_submitted_events_survive_a_crash(tmp_path: Path) -> None:
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        crashed = RealTimeModelUpdater(store=store, batch_size=100, batch_timeout_seconds=1e6)
        await crashed.start()
        await asyncio.gather(*(crashed.submit(event(number)) for number in range(30)))
        assert await store.count_waiting_events("default") == 30
        assert crashed.get_metrics().event_buffer_size == 0
        async with updater(tmp_path, store=store) as again:
            await again.submit(event(7))
        assert again.get_metrics().events_processed == 30
        assert len(await store.newest_outcomes("default", since=EARLY, limit=99)) == 30
        await crashed.stop()
        assert crashed.get_metrics().events_processed == 0


async def test_the_buffer_is_bounded_and_loaded_at_the_start(tmp_path: Path) -> None:
    for _ in range(2):
        async with updater(tmp_path, batch_size=2) as one:
            await asyncio.gather(*(one.submit(event(number)) for number in range(50)))
        assert one.get_metrics().event_buffer_size == 20
    async with updater(tmp_path, batch_size=2) as one:
        assert one.get_metrics().event_buffer_size == 20


async def test_a_wrong_clock_does_not_outweigh_other_events(tmp_path: Path, clock: FastClock) -> None:
    async with updater(tmp_path, clock=clock) as one:
        for number in range(60):
            await one.submit(event(number))
        await one.submit(event(61, agent_name="odd", occurred_at="9999-01-01T00:00:00Z"))
        assert (await one.retrain()).events_processed == 61
        assert one.recommend("billing").strategy == "llm"


async def test_an_event_of_any_time_can_be_read_again(tmp_path: Path) -> None:
    async with updater(tmp_path) as one:
        await one.submit(event(1, occurred_at="0001-01-01T00:00:00+14:00"))
        assert (await one.retrain()).events_processed == 1


async def test_old_events_are_removed_and_waiting_ones_stay(tmp_path: Path) -> None:
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        async with updater(tmp_path, store=store) as one:
            await one.submit(event(1))
        now = datetime.now(timezone.utc)
        assert await store.prune_events("default", before=now - timedelta(days=1)) == 0
        assert await store.prune_events("default", before=now + timedelta(days=1)) == 1
        assert await store.newest_events("default", limit=9) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_timeout_seconds": 0}, "batch_timeout_seconds must be above 0"),
        ({"save_interval_seconds": float("nan")}, "save_interval_seconds"),
        ({"update_strategy": "newest"}, "unknown update_strategy 'newest': use exponential"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"kafka_servers": ["broker:9092", ""]}, "kafka_servers must be host:port"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        RealTimeModelUpdater(**arguments)


async def test_before_the_start_and_after_the_end_events_are_refused(tmp_path: Path) -> None:
    one = updater(tmp_path)
    with pytest.raises(InvalidInput, match="not started"):
        await one.submit(event())
    async with one:
        await one.start()
    await one.stop()
    with pytest.raises(InvalidInput, match="not started"):
        await one.retrain()


async def test_events_of_unknown_tenants_and_turns_without_a_learner_are_refused(tmp_path: Path) -> None:
    async with updater(tmp_path, tenant_id="acme") as one:
        await one.submit(event(1, tenant_id="acme"))
        with pytest.raises(InvalidInput, match="the tenant 'other' is unknown"):
            await one.submit(event(2, tenant_id="other"))
        with pytest.raises(InvalidInput, match="a turn needs an updater with a learner"):
            await one.submit({"agent_name": "chat", "turn": {"user_text": "hi", "user_id": "ann"}})


# The training of the chooser --------------------------------------------------------------------


async def test_an_incremental_training_learns_each_event_once(tmp_path: Path) -> None:
    async with updater(tmp_path, batch_size=30) as one:
        for number in range(140):
            await one.submit(
                event(number, agent_name="llm" if number % 2 else "spacy", success=number % 2 == 1)
            )
        first = await one.retrain("test")
        assert (first.success, first.model_type, first.retrain_type) == (
            True,
            "agent_selection",
            "incremental",
        )
        assert (first.events_processed, first.reason, first.message) == (100, "test", None)
        second = await one.retrain()
        assert second.events_processed == 40
        assert second.message == "only 40 events: the choice of a strategy needs 50 or more"
        third = await one.retrain()
        assert (third.success, third.retrain_type, third.events_processed) == (False, "none", 0)
        assert one.recommend("billing").limits.timeout_s is None
        choices = [one.recommend("billing").strategy for _ in range(50)]
        assert choices.count("llm") >= 35
        assert one.get_metrics().retrainings == 3


async def test_a_number_beyond_the_range_of_a_float_holds_no_other_event(tmp_path: Path) -> None:
    async with updater(tmp_path) as one:
        await one.submit({"agent_name": "llm", "predicted_outcome": 10**400, "actual_outcome": 1})
        await one.submit(event(1))
    assert one.get_metrics().events_processed == 2


async def test_a_full_training_forgets_and_learns_the_buffer(tmp_path: Path) -> None:
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        async with updater(tmp_path, store=store, batch_size=6) as one:
            for number in range(100):
                await one.submit(event(number, agent_name="llm" if number < 40 else "spacy"))
            await one.retrain()
            full = await one.retrain(force_full_retrain=True)
            again = await one.retrain(force_full_retrain=True)
        assert (full.retrain_type, full.events_processed, again.events_processed) == ("full", 60, 60)
        tallies = (await store.strategies("default")).tallies
        assert {one.name: one.counts["success"] for one in tallies} == {"spacy": pytest.approx(60.0, abs=0.1)}


async def test_the_trained_chooser_survives_a_restart(tmp_path: Path) -> None:
    async with updater(tmp_path) as one:
        for number in range(60):
            await one.submit(event(number, agent_name="spacy"))
        await one.retrain()
    async with updater(tmp_path) as again:
        assert again.recommend("billing").strategy == "spacy"


async def test_two_updaters_learn_an_event_once(tmp_path: Path) -> None:
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        async with updater(tmp_path, store=store) as one, updater(tmp_path, store=store) as other:
            for number in range(60):
                await (one if number % 2 else other).submit(event(number))
            results = await asyncio.gather(one.retrain(), other.retrain())
        assert sum(result.events_processed for result in results) == 60
        (tally,) = (await store.strategies("default")).tallies
        assert tally.counts["success"] == pytest.approx(60, abs=0.1)


async def test_a_monitor_retrains_by_the_updater(tmp_path: Path) -> None:
    async with updater(tmp_path) as one:
        await one.submit(event())
        monitor = PerformanceMonitor(model_updater=one)
        result = await monitor.trigger_retraining("manual", force_full_retrain=True)
    assert (result.model_type, result.retrain_type, result.events_processed) == ("agent_selection", "full", 1)
    assert monitor.get_stats()["model_updater_connected"]


# Samplers ---------------------------------------------------------------------------------------


def test_every_update_strategy_is_a_registered_sampler() -> None:
    assert {one.value for one in UpdateStrategy} == set(SAMPLERS.own)
    assert load_settings().learning.sampler in SAMPLERS.own
    with pytest.raises(SettingsError, match="unknown sampler 'newest': known are exponential"):
        SAMPLERS.find("newest")


@given(times=st.lists(st.floats(0, 1e10), min_size=2, max_size=9, unique=True), draw=st.floats(0, 1))
def test_among_equal_draws_newer_items_never_lose(times: list[float], draw: float) -> None:
    in_order = sorted(times)
    for name in ("sliding_window", "exponential"):
        priorities = [SAMPLERS.own[name](at, draw) for at in in_order]
        assert priorities == sorted(priorities)


def test_the_exponential_sampler_prefers_newer_items_and_uses_older_ones() -> None:
    week = 7 * 86_400.0
    draws = [(number + 0.5) / 1_000 for number in range(1_000)]
    sampler = SAMPLERS.find("exponential")
    items = [(sampler(age * -week, draw), age) for age in (0, 1) for draw in draws]
    chosen = [age for _, age in sorted(items, reverse=True)[:100]]
    assert chosen.count(0) / chosen.count(1) == pytest.approx(2.0, rel=0.15)


# With a learner ---------------------------------------------------------------------------------


async def test_turns_and_outcomes_of_a_learner(acme: AutonomousLearner, tmp_path: Path) -> None:
    turn = {"user_text": "fly me to rome", "user_id": "ann", "user_feedback": {"corrected_intent": "travel"}}
    async with RealTimeModelUpdater(learner=acme, tenant_id="acme", batch_timeout_seconds=0.05) as one:
        await one.submit({"event_id": "t1", "agent_name": "chat", "turn": turn})
        await one.submit({"event_id": "t1", "agent_name": "chat", "turn": turn})
        await one.submit(event(1, tenant_id="acme"))
        with pytest.raises(InvalidInput, match=r"analysis\.max_text_chars"):
            await one.submit({"agent_name": "chat", "turn": turn | {"user_text": "x" * 20_001}})
        result = await one.retrain("stream")
        assert result.model_type == "language_understanding"
    stored = await acme.store.get_turn("acme", "event:id:t1")
    assert stored is not None
    assert stored.user_text == "fly me to rome"
    assert (await acme.history("acme"))[0].reason == "stream"
    assert len(await acme.store.newest_outcomes("acme", since=EARLY, limit=9)) == 1
    assert acme._curator._samplers == {"acme": "exponential"}
    assert not (tmp_path / "models").exists()


def test_an_event_in_the_inbox_is_a_plain_value() -> None:
    assert InboxEvent._fields == ("seq", "key", "at", "event")


def test_synchronous_code_uses_the_twins(tmp_path: Path) -> None:
    with synchronous.RealTimeModelUpdater(
        model_storage_path=tmp_path, update_strategy=synchronous.UpdateStrategy.UNIFORM
    ) as one:
        assert one.running
        assert one.submit(event(1)) == "id:e1"
        monitor = synchronous.init_performance_monitor(model_updater=one)
        result = monitor.trigger_retraining("manual", force_full_retrain=True)
        assert (result.retrain_type, result.events_processed) == ("full", 1)
        assert one.retrain().retrain_type == "none"
        assert one.get_metrics().update_strategy == "uniform"
        assert one.recommend("billing").strategy == "llm"
        monitor.stop()
    assert not one.running
