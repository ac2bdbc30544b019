"""The production log: validation, sanitising, imports, erasure, and its components."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner import blocking
from karen_learner.collection.turns import CharacterSanitizer
from karen_learner.errors import InvalidInput
from karen_learner.improvement.production_log import (
    MAX_ENTRY_BYTES,
    SCHEMA_FILE,
    ProductionLog,
    decision_schema,
    is_decision_log,
    read_decision,
)
from karen_learner.memory import SqlMemoryStore
from karen_learner.records import UserFeedback
from karen_learner.settings import StoreSettings
from tests.improvement.conftest import ACME, Engine
from tests.memory.memory_specimens import NOON, make_turn

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


def entry(number: int = 0, **values: Any) -> dict[str, Any]:
    made = {
        "entry_id": f"e{number}",
        "log_type": "ai_message",
        "session_id": f"s{number % 40}",
        "timestamp": (NOON - timedelta(days=2)).isoformat(),
        "lead_identifier": f"lead{number % 40}",
        "input_data": {"text": "hello"},
        "output_data": {"template": "greeting", "text": "good morning"},
        "decision_reasoning": {
            "method_used": "template",
            "confidence_level": 0.8,
            "processing_time": 0.2,
            "success": True,
        },
        "training_labels": {"quality_score": 80, "success_indicator": True, "improvement_potential": 10},
    }
    return made | values


def lines(*entries: Mapping[str, Any] | str) -> list[bytes]:
    return [(one if isinstance(one, str) else json.dumps(one)).encode() for one in entries]


@pytest.fixture
def log(store: SqlMemoryStore, store_settings: StoreSettings) -> ProductionLog:
    """A log whose entries arrive an hour before NOON."""
    now = NOON - timedelta(hours=1)
    return ProductionLog(store, store_settings, sanitizer=CharacterSanitizer(), clock=lambda: now)


def test_the_published_schema_is_that_of_the_records() -> None:
    assert json.loads(SCHEMA_FILE.read_text("utf-8")) == decision_schema()
    jsonschema.Draft202012Validator.check_schema(decision_schema())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"subject": "lead", "lead_identifier": None},
        {"log_type": ""},
        {"log_type": None},
        {"unknown": 1},
        {"decision_reasoning": {}},
        {"training_labels": {"quality_score": 101}},
        {"training_labels": {"success_indicator": 0.5}},
        {"training_labels": {"success_indicator": 2}},
        {"timestamp": "yesterday"},
        {"input_data": "text"},
    ],
)
def test_the_schema_and_the_reader_agree(change: dict[str, Any]) -> None:
    values = {
        name: value for name, value in (entry() | change).items() if value is not None or name == "log_type"
    }
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    fits = jsonschema.Draft202012Validator(decision_schema(), format_checker=checker).is_valid(values)
    try:
        read_decision(values)
    except InvalidInput:
        assert not fits or change.get("timestamp")
    else:
        assert fits


@given(st.dictionaries(st.sampled_from([*entry(), "x"]), JSON))
def test_any_json_is_an_entry_or_an_invalid_input(values: dict[str, Any]) -> None:
    try:
        assert read_decision(json.dumps(values)).log_type
    except InvalidInput as error:
        assert 0 < len(str(error)) <= 200  # noqa: PT017


async def test_log_types_become_components(store: SqlMemoryStore, log: ProductionLog, engine: Engine) -> None:
    bad = {"quality_score": 20, "success_indicator": False}
    made = [entry(n, **({"training_labels": bad} if n % 4 == 0 else {})) for n in range(200)]
    other = entry(999, log_type="routing_performance", output_data={})
    same = entry(1_000, log_type="ai_message_performance", output_data={})
    await log.import_lines(ACME, iter(lines(*made, other, same)))
    results = await engine().analyze_weekly_performance()
    found = results.components["ai_message_performance"]
    assert found.observations == 200
    assert found.metrics["approval_rate"] == pytest.approx(0.75)
    assert found.metrics["quality"] == pytest.approx(0.65)
    assert found.metrics["processing_time"] == pytest.approx(0.2)
    assert found.groups["template_effectiveness"] == {"greeting": pytest.approx(0.75)}
    assert results.components["routing_performance"].observations == 1
    assert results.components["ai_message_performance_performance"].observations == 1
    trend = next(one for one in results.trends if one.metric == "approval_rate")
    assert trend.evidence.entry_ids[-1] == "id:e196"
    body = json.loads(await store.decision(ACME, "id:e196") or "")
    assert body["training_labels"]["success_indicator"] is False


async def test_corrupt_lines_change_nothing_but_the_note(log: ProductionLog, engine: Engine) -> None:
    good = lines(*(entry(n) for n in range(100)))
    await log.import_lines(ACME, iter(good))
    clean = await engine().analyze_weekly_performance()
    bad = [b"{", b"\xff\xfe", b"[]", *lines(entry(5, log_type=7), entry(6, secret="my secret text"))]
    report = await log.import_lines(ACME, iter([*good, *bad]))
    assert (report.entries, report.added, report.duplicates, report.corrupt) == (105, 5, 100, 5)
    assert "secret text" not in report.model_dump_json()
    found = await engine().analyze_weekly_performance()
    assert found.components == clean.components
    assert clean.data_quality.note is None
    assert found.data_quality.skipped == 5
    assert found.data_quality.note == "5 of 105 log entries (4.8%) are skipped."
    assert found.data_quality.reasons == report.reasons


async def test_the_same_file_again_is_the_same_entries(log: ProductionLog, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    without_ids = [entry(n, entry_id=None, session_id=f"s{n}") for n in range(10)]
    path.write_bytes(b"\n".join([*lines(*without_ids), b"", b"no json"]))
    first = await log.import_file(ACME, path)
    again = await log.import_file(ACME, path)
    assert (first.added, first.corrupt) == (11, 1)
    assert (again.added, again.duplicates) == (0, 11)
    assert is_decision_log(path)


async def test_a_line_without_end_is_one_corrupt_entry(log: ProductionLog, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"x" * (3 * MAX_ENTRY_BYTES) + b"\n" + lines(entry())[0])
    report = await log.import_file(ACME, path)
    assert (report.entries, report.corrupt) == (2, 1)
    assert not is_decision_log(path)


async def test_texts_are_sanitised(store: SqlMemoryStore, log: ProductionLog) -> None:
    key = await log.log(ACME, entry(input_data={"a\x00b": ["x\x00", {"y": "z"}]}))
    body = json.loads(await store.decision(ACME, key) or "")
    assert body["input_data"] == {"a�b": ["x�", {"y": "z"}]}
    with pytest.raises(InvalidInput, match="not Unicode"):
        await log.log(ACME, entry(input_data={"text": "\ud800"}))


async def test_a_thread_reads_and_sanitises_the_entries_of_calls(
    store: SqlMemoryStore, store_settings: StoreSettings
) -> None:
    threads: set[int] = set()

    class Recorded:
        def sanitize(self, text: str) -> str:
            threads.add(threading.get_ident())
            if text == "fail":
                raise RuntimeError(text)
            return text

    log = ProductionLog(store, store_settings, sanitizer=Recorded(), clock=lambda: NOON)
    made = [entry(1), {"log_type": "x"}, entry(2, input_data={"text": "fail"}), entry(3)]
    found = await asyncio.gather(*(log.log(ACME, one) for one in made), return_exceptions=True)
    assert [type(one) for one in found] == [str, InvalidInput, RuntimeError, str]
    assert threads
    assert threading.get_ident() not in threads


async def test_without_consent_no_content_is_stored(store: SqlMemoryStore, log: ProductionLog) -> None:
    key = await log.log(ACME, entry(consent=False, user_id="u1"))
    body = json.loads(await store.decision(ACME, key) or "")
    assert body.keys() == {"entry_id", "log_type", "session_id", "timestamp", "consent", "decision_reasoning",
                           "training_labels"}  # fmt: skip


async def test_erasure_removes_contents_and_keeps_numbers(
    store: SqlMemoryStore, log: ProductionLog, engine: Engine
) -> None:
    await asyncio.gather(*(log.log(ACME, entry(n, user_id=f"u{n % 2}")) for n in range(40)))
    await log.log("other", entry(1, user_id="u1"))
    assert await log.erase(ACME, user_id="u1", session_id=None) == 20
    assert await store.decision(ACME, "id:e1") is None
    assert await store.decision(ACME, "id:e2") is not None
    assert await store.decision("other", "id:e1") is not None
    results = await engine().analyze_weekly_performance()
    assert results.components["ai_message_performance"].observations == 40
    with pytest.raises(InvalidInput):
        await log.erase(ACME, user_id=None, session_id=None)


async def test_withdrawn_consent_to_a_turn_removes_the_contents_of_its_entries(
    store: SqlMemoryStore, log: ProductionLog
) -> None:
    await store.add_turn(make_turn("t1"))
    await log.log(ACME, entry(1, turn_id="t1"))
    await log.log(ACME, entry(2, turn_id="t2"))
    await store.add_feedback(ACME, "t1", UserFeedback(consent=False))
    assert await store.decision(ACME, "id:e1") is None
    assert await store.decision(ACME, await log.log(ACME, entry(3, turn_id="t1"))) is None
    assert await store.decision(ACME, "id:e2") is not None


async def test_a_turn_that_arrives_without_consent_removes_the_contents_of_its_entries(
    store: SqlMemoryStore, log: ProductionLog, engine: Engine
) -> None:
    await store.add_turn(make_turn("t0"))  # the tenant is known to the quick path
    for number, turn_id in enumerate(["t1", "t2", "t3"]):
        await log.log(ACME, entry(number, turn_id=turn_id))
    await log.log("other", entry(0, turn_id="t1"))
    refused = UserFeedback(consent=False)
    await asyncio.gather(
        store.add_turn(make_turn("t1", feedback=refused)),
        store.add_turn(make_turn("t2", text=None)),
        store.add_turn(make_turn("t3")),
    )
    found = [await store.decision(ACME, f"id:e{number}") is not None for number in range(3)]
    assert found == [False, False, True]
    assert await store.decision("other", "id:e0") is not None
    assert (await engine().analyze_weekly_performance()).components[
        "ai_message_performance"
    ].observations == 3


async def test_an_entry_that_is_logged_again_without_consent_loses_its_contents(
    store: SqlMemoryStore, log: ProductionLog
) -> None:
    for number in (1, 2):
        await log.log(ACME, entry(number, turn_id="t1"))
    await log.log("other", entry(1))
    await log.log(ACME, entry(1, consent=False))
    assert await store.decision(ACME, "id:e1") is None
    assert await store.decision(ACME, "id:e2") is not None
    assert await store.decision("other", "id:e1") is not None
    assert await log.erase(ACME, user_id=None, session_id="s1") == 0
    for _ in range(2):  # a repeated request without consent is the same entry
        await log.log(ACME, entry(3, consent=False))
        assert await store.decision(ACME, "id:e3") is not None


async def test_a_time_of_the_future_counts_as_the_arrival(log: ProductionLog, engine: Engine) -> None:
    await log.log(ACME, entry(1, timestamp=(NOON + timedelta(days=400)).isoformat()))
    await log.log(ACME, entry(2, timestamp="0001-01-01T00:00:00"))
    results = await engine().analyze_weekly_performance()
    assert results.components["ai_message_performance"].observations == 1


async def test_old_entries_are_removed_once_a_day(
    store: SqlMemoryStore, store_settings: StoreSettings, engine: Engine
) -> None:
    times = [NOON - timedelta(days=500), NOON - timedelta(hours=2), NOON - timedelta(hours=1)]
    log = ProductionLog(store, store_settings, sanitizer=CharacterSanitizer(), clock=lambda: times[0])
    await log.log(ACME, entry(1, timestamp=times[0].isoformat()))
    times.pop(0)
    await log.log(ACME, entry(2, timestamp=times[0].isoformat()))
    assert await store.decision(ACME, "id:e1") is None
    assert await store.decision(ACME, "id:e2") is not None
    results = await engine().analyze_weekly_performance(1)
    assert results.components["ai_message_performance"].observations == 1


async def test_many_log_types_are_bounded(log: ProductionLog, engine: Engine) -> None:
    made = [entry(n, log_type=f"type{n}") for n in range(300)]
    await log.import_lines(ACME, iter(lines(*made, entry(1_000, log_type="type299"))))
    found = (await engine().analyze_weekly_performance()).components
    assert len([name for name in found if name.startswith("type")]) == 200
    assert found["type299_performance"].observations == 2


async def test_users_of_log_entries_are_clusters(log: ProductionLog, engine: Engine) -> None:
    """The same share of successes is less certain if few people have most of the entries."""
    random = np.random.default_rng(0)
    for log_type, people in (("many", 200), ("few", 12)):
        liked = random.random(people) < 0.7
        labels = [{"success_indicator": bool(liked[n % people])} for n in range(400)]
        made = [
            entry(
                n, entry_id=f"{log_type}{n}", log_type=log_type, user_id=f"u{n % people}", training_labels=one
            )
            for n, one in enumerate(labels)
        ]
        await log.import_lines(ACME, iter(lines(*made)))
    results = await engine(alert_thresholds={"approval_rate_min": 0.9}).analyze_weekly_performance()
    widths = {}
    for name in ("many_performance", "few_performance"):
        reason = next(one for one in results.components[name].reasons if "approval_rate" in one)
        low, high = reason.split("interval ")[1].split(")")[0].split(" to ")
        widths[name] = float(high) - float(low)
    assert widths["few_performance"] > 2 * widths["many_performance"]


def test_a_learner_logs_decisions(tmp_path: Path) -> None:
    with blocking.create_autonomous_learner(tmp_path) as learner:
        assert learner.log_decision(ACME, entry(1)) == "id:e1"
        with pytest.raises(InvalidInput):
            learner.log_decision(ACME, {"log_type": "x"})
        assert list(learner.tenants()) == [ACME]
        assert learner.erase_decisions(ACME, session_id="s1") == 1
        with pytest.raises(InvalidInput):
            learner.erase_decisions(ACME)


async def test_entries_are_erased_by_subject(log: ProductionLog, store: SqlMemoryStore) -> None:
    odd = 'lead "7%_\\ é \U0001f600'
    about = [odd, odd.upper(), odd[:-1], "lead", None]
    keys = [
        await log.log(ACME, entry(number, lead_identifier=subject, output_data={"text": f"about {odd}"}))
        for number, subject in enumerate(about)
    ]
    await log.log("other", entry(9, lead_identifier=odd))
    assert await log.erase(ACME, subject=odd) == 1
    assert [await store.decision(ACME, key) is None for key in keys] == [True] + 4 * [False]
    assert await store.decision("other", "id:e9") is not None
    assert await log.erase(ACME, subject=odd) == 0
