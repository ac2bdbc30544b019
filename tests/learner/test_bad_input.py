"""Invalid input raises a typed error, and nothing is stored."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from karen_learner.errors import (
    ImportFormatError,
    InvalidInput,
    KarenLearnerError,
    LabelCollision,
    LearnerClosed,
    SettingsError,
    StoreLocked,
    StoreNotOurs,
    StoreReadOnly,
    UnknownTenant,
    UnknownTurn,
    UnknownVersion,
)
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from tests.databases import SHARED, contents, place_of

ACME = "acme"
MakeLearner = Callable[..., AutonomousLearner]
REPLACED = "\N{REPLACEMENT CHARACTER}"


async def collect(learner: AutonomousLearner, **changes: Any) -> Any:
    values = {"tenant_id": ACME, "user_text": "hello there", "assistant_response": "hi", "user_id": "u"}
    return await learner.collect_conversation_metadata(**{**values, **changes})


@pytest.fixture
def store_kind() -> str:
    """Input is refused before the store receives it: one kind of store is enough."""
    return "file"


on_all_stores = pytest.mark.parametrize("store_kind", SHARED)


@pytest.fixture
def unchanged(acme: AutonomousLearner) -> Any:
    """A check that a call raises an error and changes no row."""

    async def check(call: Awaitable[Any], kind: type[Exception], match: str | None = None) -> None:
        before = await contents(place_of(acme))
        with pytest.raises(kind, match=match) as caught:
            await call
        assert isinstance(caught.value, KarenLearnerError)
        assert len(str(caught.value)) < 2000
        assert await contents(place_of(acme)) == before

    return check


# Texts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "user_text is empty"),
        (" \t\r\n\u00a0\u2003", "user_text is empty"),
        ("x" * 20_001, r"20,001 characters.*analysis\.max_text_chars"),
        (None, "must be a text, not NoneType"),
        (b"bytes", "must be a text, not bytes"),
    ],
)
async def test_unusable_texts(acme: AutonomousLearner, unchanged: Any, text: Any, match: str) -> None:
    await unchanged(collect(acme, user_text=text), InvalidInput, match)
    for call in (acme.analyze(ACME, text), acme.analyze_many(ACME, ["fine", text])):
        await unchanged(call, InvalidInput, match.removeprefix("user_text "))
    assert (await acme.status(ACME)).counts.turns == 0


@pytest.mark.parametrize("response", [None, 3, "x" * 200_001])
async def test_unusable_responses(acme: AutonomousLearner, unchanged: Any, response: Any) -> None:
    await unchanged(collect(acme, assistant_response=response), InvalidInput, "assistant_response")
    assert (await acme.status(ACME)).counts.turns == 0


@on_all_stores
async def test_an_answer_may_be_empty(acme: AutonomousLearner) -> None:
    assert await collect(acme, assistant_response="")


@on_all_stores
@pytest.mark.parametrize("unfit", ["\ud800", "\x00", "\x07", "\x1b"])
async def test_characters_that_no_database_can_store_are_replaced_one_for_one(
    acme: AutonomousLearner, unfit: str
) -> None:
    feedback = {"corrected_entities": [{"start": 6, "end": 11, "label": "who"}], "comment": unfit}
    metadata = await collect(
        acme, user_text=f"hell{unfit} there", assistant_response=unfit, user_feedback=feedback
    )
    turn = await acme.store.get_turn(ACME, metadata.turn_id)
    assert turn is not None
    assert turn.user_text == f"hell{REPLACED} there"
    assert turn.assistant_response == REPLACED
    assert turn.feedback is not None
    assert turn.feedback.comment == REPLACED
    assert not (await acme.analyze(ACME, f"a flight{unfit} to blue please")).degraded


@on_all_stores
async def test_texts_of_any_script_and_length_are_unchanged(acme: AutonomousLearner) -> None:
    for text in (
        "🙂" * 1000,
        "x" * 20_000,
        "שלום\u202eabc",
        "a\u0301" * 50,
        "\ufeffhello",
        "1" * 5000,
        "!?" * 900,
    ):
        metadata = await collect(acme, user_text=text)
        turn = await acme.store.get_turn(ACME, metadata.turn_id)
        assert turn is not None
        assert turn.user_text == text
        assert not metadata.degraded


# Feedback ---------------------------------------------------------------------------------------

BAD_FEEDBACK: list[tuple[Any, str]] = [
    ({"satisfaction_score": 1.01}, "satisfaction_score"),
    ({"satisfaction_score": -0.01}, "satisfaction_score"),
    ({"satisfaction_score": float("nan")}, "satisfaction_score"),
    ({"response_quality": float("inf")}, "response_quality"),
    ({"response_quality": "good"}, "response_quality"),
    ({"satisfaction": 1.0}, "satisfaction_score"),
    ({"correct_intent": "travel"}, "corrected_intent"),
    ({"corrected_intent": ""}, "corrected_intent"),
    ({"corrected_intent": "x" * 201}, "corrected_intent"),
    ({"corrected_intent": "a\x00b"}, "control characters"),
    ({"corrected_sentiment": "\ud800"}, "corrected_sentiment"),
    ({"comment": "x" * 10_001}, "comment"),
    ({"consent": "perhaps"}, "consent"),
    ({"corrected_entities": [{"start": 0, "end": 99, "label": "who"}]}, "corrected_entities"),
    ({"corrected_entities": [{"start": -1, "end": 2, "label": "who"}]}, "corrected_entities"),
    ({"corrected_entities": [{"start": 5, "end": 5, "label": "who"}]}, "corrected_entities"),
    ({"corrected_entities": [[0, 5, "who"], [3, 8, "who"]]}, "corrected_entities"),
    ({"corrected_entities": "none"}, "corrected_entities"),
    ({"corrected_entities": [{"start": 0, "end": 5, "label": "who", "colour": "red"}]}, "corrected_entities"),
    ([("satisfaction_score", 1.0)], "must be a mapping"),
    ("great", "must be a mapping"),
]


@pytest.mark.parametrize(("feedback", "match"), BAD_FEEDBACK)
async def test_unusable_feedback(acme: AutonomousLearner, unchanged: Any, feedback: Any, match: str) -> None:
    turn = await collect(acme)
    await unchanged(collect(acme, user_feedback=feedback), InvalidInput, match)
    await unchanged(collect(acme, user_feedback=feedback, turn_id=turn.turn_id), InvalidInput, match)
    await unchanged(acme.add_feedback(ACME, turn.turn_id, feedback), InvalidInput, match)
    stored = await acme.store.get_turn(ACME, turn.turn_id)
    assert stored is not None
    assert stored.feedback is None


async def test_feedback_for_an_unknown_turn(acme: AutonomousLearner, unchanged: Any) -> None:
    turn = await collect(acme)
    feedback = {"satisfaction_score": 1.0}
    for tenant_id, turn_id in ((ACME, "no such turn"), ("globex", turn.turn_id), ("nobody", "x")):
        await unchanged(acme.add_feedback(tenant_id, turn_id, feedback), UnknownTurn)
    await unchanged(acme.add_feedback(ACME, turn.turn_id, None), InvalidInput)  # type: ignore[arg-type]
    assert (await acme.status(ACME)).counts.with_feedback == 0


async def test_undeclared_labels_are_kept_and_never_trained_on(acme: AutonomousLearner) -> None:
    labels = (await acme.status(ACME)).labels
    feedback = [
        {"corrected_intent": "hack"},
        {"corrected_sentiment": "furious"},
        {"corrected_entities": [[0, 5, "who"]]},
        {"corrected_intent": "travel", "corrected_sentiment": "furious"},
    ]
    for number in range(12):  # two users: fewer than learning.meaning_quorum
        await collect(
            acme,
            user_text=f"hello there {number}",
            user_id=f"u{number // 6}",
            user_feedback=feedback[number % 4],
        )
    result = await acme.trigger_learning_cycle(ACME)
    assert (result.status, result.error_message) == ("skipped", "there is nothing new to learn")
    assert result.curation is not None
    assert result.curation.quarantined == 12
    kept = [one async for one in acme.store.examples(ACME, state="quarantined")]
    assert len(kept) == 12
    assert all(one.reason for one in kept)
    assert (await acme.status(ACME)).labels == labels


async def test_misaligned_entities_are_kept_and_never_trained_on(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    path = tmp_path / "who.jsonl"
    path.write_text('{"text": "ann was here", "entities": [[0, 3, "who"]]}\n')
    await acme.ingest(ACME, path)
    await collect(acme, user_text="bobby was here", user_feedback={"corrected_entities": [[0, 3, "who"]]})
    await acme.trigger_learning_cycle(ACME)
    kept = [one async for one in acme.store.examples(ACME, state="quarantined")]
    assert [one.text for one in kept] == ["bobby was here"]


# Ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tenant_id", "user_id", "turn_id", "conversation_id"])
@pytest.mark.parametrize("value", ["", "x" * 1001, "a\x00b", "\ud800", 7])
async def test_unusable_ids(acme: AutonomousLearner, unchanged: Any, name: str, value: Any) -> None:
    await unchanged(collect(acme, **{name: value}), InvalidInput, name)
    assert await acme.tenants() == [ACME]
    assert (await acme.status(ACME)).counts.turns == 0


@on_all_stores
async def test_ids_may_look_like_paths(acme: AutonomousLearner) -> None:
    home = acme.layout.home
    outside = {path for path in home.parent.rglob("*") if not path.is_relative_to(home)}
    for hostile in (
        "../..",
        "/etc/passwd",
        "..",
        ".",
        "a/b",
        "a\\b",
        "🙂",
        "x" * 1000,
        "'; DROP TABLE turns; --",
    ):
        metadata = await collect(acme, tenant_id=hostile, user_id=hostile, turn_id=hostile)
        assert (metadata.tenant_id, metadata.user_id, metadata.turn_id) == (hostile,) * 3
        assert (await acme.status(hostile)).counts.turns == 1
        result = await acme.trigger_learning_cycle(hostile)
        assert result.status == "skipped"
        with pytest.raises(UnknownVersion):
            await acme.rollback(hostile, "../../v0001")
    assert {path for path in home.parent.rglob("*") if not path.is_relative_to(home)} == outside
    assert (await acme.status(ACME)).counts.turns == 0


@pytest.mark.parametrize("tenant_id", ["", "x" * 1001, "a\x00b", "\ud800", None, 7])
async def test_an_invalid_tenant_is_refused_everywhere(
    acme: AutonomousLearner,
    unchanged: Any,
    tmp_path: Path,
    tenant_id: Any,
) -> None:
    file = tmp_path / "gold.jsonl"
    file.write_text('{"text": "new", "intent": "new"}\n')
    for call in (
        acme.bootstrap(tenant_id, [{"text": "new", "intent": "new"}]),
        acme.bootstrap(tenant_id, file),
        acme.ingest(tenant_id, file),
        acme.add_feedback(tenant_id, "t", {"satisfaction_score": 1.0}),
        acme.analyze(tenant_id, "hello"),
        acme.analyze_many(tenant_id, ["hello"]),
    ):
        await unchanged(call, InvalidInput, "tenant_id")
    for call in (
        acme.trigger_learning_cycle,
        acme.plan_learning_cycle,
        acme.status,
        acme.history,
        partial(acme.example_texts, example_ids=["e"]),
        acme.versions,
        acme.rollback,
        acme.release,
        acme.discard,
        partial(acme.export, path=tmp_path / "out.jsonl"),
    ):
        await unchanged(call(tenant_id), (InvalidInput, UnknownTenant))  # type: ignore[arg-type]
    assert await acme.tenants() == [ACME]


@on_all_stores
async def test_an_unknown_tenant_is_reported_and_not_created(
    acme: AutonomousLearner, unchanged: Any, tmp_path: Path
) -> None:
    for call in (
        acme.trigger_learning_cycle("nobody"),
        acme.plan_learning_cycle("nobody"),
        acme.status("nobody"),
        acme.history("nobody"),
        acme.example_texts("nobody", ["e"]),
        acme.versions("nobody"),
        acme.rollback("nobody"),
        acme.rollback("nobody", "v0001"),
        acme.release("nobody"),
        acme.discard("nobody"),
        acme.get_learning_metrics("nobody"),
        acme.export("nobody", tmp_path / "out.jsonl"),
    ):
        await unchanged(call, UnknownTenant, "'nobody'")
    assert (await acme.analyze("nobody", "hello")).degraded
    assert await acme.tenants() == [ACME]
    assert not (tmp_path / "out.jsonl").exists()


async def test_a_time_without_a_time_zone_is_refused(acme: AutonomousLearner, unchanged: Any) -> None:
    await unchanged(collect(acme, occurred_at=datetime(2026, 1, 1)), InvalidInput, "time zone")
    await unchanged(collect(acme, occurred_at="yesterday"), InvalidInput, "datetime")
    assert (await acme.status(ACME)).counts.turns == 0


# Gold and files -----------------------------------------------------------------------------------


async def test_unusable_gold_is_skipped_and_logged(
    acme: AutonomousLearner, caplog: pytest.LogCaptureFixture
) -> None:
    before = (await acme.status(ACME)).counts.examples
    bad = [
        {"text": "", "intent": "travel"},
        {"text": "no label"},
        {"text": "a\x00b", "intent": "travel"},
        {"text": "\ud800", "intent": "travel"},
        {"text": "x" * 20_001, "intent": "travel"},
        {"text": "hello", "intent": "travel", "colour": "red"},
        {"text": "hello", "entities": [[0, 99, "who"]]},
        {"text": "hello", "intent": 3},
        {"intent": "travel"},
        "no mapping",
        None,
    ]
    await acme.bootstrap(ACME, bad)
    assert (await acme.status(ACME)).counts.examples == before
    assert f"{len(bad)} examples are skipped, the first at position 1" in caplog.text


async def test_one_label_for_two_tasks_is_refused_with_nothing_stored(
    acme: AutonomousLearner, unchanged: Any, tmp_path: Path
) -> None:
    rows = [{"text": "fine", "intent": "fine"}, {"text": "hm", "intent": "positive"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for call in (acme.bootstrap(ACME, rows), acme.bootstrap(ACME, path), acme.ingest(ACME, path)):
        await unchanged(call, LabelCollision, "'positive'")
    assert "positive" not in (await acme.status(ACME)).labels["intent"]


Call = Callable[[AutonomousLearner], Awaitable[object]]
SINGLE_VALUES: list[Call] = [
    lambda learner: learner.analyze_many(ACME, "abc"),
    lambda learner: learner.analyze_many(ACME, {"text": "abc"}),  # type: ignore[arg-type]
    lambda learner: learner.analyzer.analyze_many("abc"),
    lambda learner: learner.example_texts(ACME, "abc"),
    lambda learner: learner.bootstrap(ACME, {"text": "abc", "intent": "greeting"}),  # type: ignore[arg-type]
    lambda learner: learner.bootstrap(ACME, None),  # type: ignore[arg-type]
    lambda learner: learner.ingest(ACME, [{"text": "abc"}]),  # type: ignore[arg-type]
    lambda learner: learner.evaluate(ACME, {"text": "abc", "intent": "greeting"}),  # type: ignore[arg-type]
    lambda learner: learner.evaluate(ACME, 3),  # type: ignore[arg-type]
]
LIMITS: list[Call] = [
    lambda learner: learner.history(ACME, limit=-1),
    lambda learner: learner.history(ACME, limit="5"),  # type: ignore[arg-type]
    lambda learner: learner.journal(ACME, limit=-1),
    lambda learner: learner.journal(ACME, since=-1),
    lambda learner: learner.versions(ACME, limit=-1),
    lambda learner: learner.versions(ACME, limit=True),
    lambda learner: learner.versions(ACME, limit=1.5),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("call", [*SINGLE_VALUES, *LIMITS])
async def test_single_values_for_several_and_negative_limits(
    acme: AutonomousLearner, unchanged: Any, call: Call
) -> None:
    with pytest.raises(
        InvalidInput, match=r"several values|a path or an async iterator|a number of at least 0"
    ):
        await call(acme)


@pytest.mark.parametrize("language", ["th", "ko", "qq"])
async def test_a_language_without_a_tokenizer_is_refused_before_anything_is_stored(
    tmp_path: Path, language: str
) -> None:
    learner = create_autonomous_learner(tmp_path / "home", overrides={"training.language": language})
    with pytest.raises(
        SettingsError, match=f"training.language: spaCy has no usable tokenizer for '{language}'"
    ):
        await learner.bootstrap(ACME, [{"text": "hello", "intent": "greeting"}])
    assert not (tmp_path / "home").exists()
    await learner.close()


async def test_files_that_cannot_be_imported(acme: AutonomousLearner, unchanged: Any, tmp_path: Path) -> None:
    before = (await acme.status(ACME)).counts
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "text.spacy").write_text("no DocBin")
    for name in ("picture.png", "text.spacy", "missing.jsonl", "."):
        await unchanged(acme.ingest(ACME, tmp_path / name), ImportFormatError)
        await unchanged(acme.bootstrap(ACME, tmp_path / name), ImportFormatError)
    assert (await acme.status(ACME)).counts == before


async def test_exports_that_cannot_be_written(
    acme: AutonomousLearner, unchanged: Any, tmp_path: Path
) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").write_text("")
    await unchanged(acme.export(ACME, tmp_path / "x.jsonl", kind="turns"), InvalidInput, "no turns to export")
    await collect(acme)
    await unchanged(acme.export(ACME, tmp_path / "x.png"), InvalidInput, "no exporter for 'x.png'")
    await unchanged(acme.export(ACME, tmp_path / "x.spacy", kind="turns"), InvalidInput)
    await unchanged(acme.export(ACME, tmp_path / "x.jsonl", kind="wishes"), InvalidInput)  # type: ignore[arg-type]
    for place in (tmp_path / "folder.jsonl", tmp_path / "file" / "x.jsonl"):
        for kind in ("examples", "turns"):
            await unchanged(acme.export(ACME, place, kind=kind), InvalidInput, "cannot be written")  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.partial"))
    for kind in ("examples", "turns"):
        await acme.export(ACME, tmp_path / "new" / kind / "x.jsonl", kind=kind)  # type: ignore[arg-type]


# The learner itself -------------------------------------------------------------------------------


@on_all_stores
async def test_a_closed_learner_raises_learner_closed(make_learner: MakeLearner, tmp_path: Path) -> None:
    learner = make_learner()
    await learner.start()
    await learner.close()
    for call in (
        learner.start(),
        collect(learner),
        learner.add_feedback(ACME, "t", {"satisfaction_score": 1.0}),
        learner.analyze(ACME, "hello"),
        learner.analyze_many(ACME, ["hello"]),
        learner.bootstrap(ACME, []),
        learner.trigger_learning_cycle(ACME),
        learner.plan_learning_cycle(ACME),
        learner.rollback(ACME),
        learner.release(ACME),
        learner.discard(ACME),
        learner.status(ACME),
        learner.get_learning_metrics(),
        learner.history(ACME),
        learner.example_texts(ACME, ["e"]),
        learner.versions(ACME),
        learner.tenants(),
        learner.ingest(ACME, tmp_path / "x.jsonl"),
        learner.export(ACME, tmp_path / "x.jsonl"),
        learner.training_pipeline.run(ACME),
        learner.training_pipeline.warm_up(),
        learner.training_pipeline.rollback(ACME),
        learner.training_pipeline.rollback_model(tmp_path / "x.tar.gz"),
    ):
        with pytest.raises(LearnerClosed):
            await call
    await learner.close()


@on_all_stores
async def test_closing_finishes_running_calls_or_raises(make_learner: MakeLearner) -> None:
    learner = make_learner()
    await learner.start()
    calls = [asyncio.create_task(collect(learner, turn_id=f"t{n}")) for n in range(50)]
    await asyncio.sleep(0)
    await learner.close()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    acknowledged = [answer.turn_id for answer in answers if not isinstance(answer, BaseException)]
    assert {type(answer) for answer in answers if isinstance(answer, BaseException)} <= {LearnerClosed}
    async with make_learner() as after:
        assert all([await after.store.get_turn(ACME, turn_id) for turn_id in acknowledged])


async def test_the_pipeline_starts_on_first_use(make_learner: MakeLearner) -> None:
    learner = make_learner()
    with pytest.raises(UnknownVersion):
        await learner.training_pipeline.rollback(ACME)
    assert await learner.tenants() == [ACME]
    await learner.close()


async def test_a_learner_that_was_never_started_can_be_closed(make_learner: MakeLearner) -> None:
    learner = make_learner()
    await learner.close()
    with pytest.raises(LearnerClosed):
        await learner.start()


# The database -----------------------------------------------------------------------------------


async def test_a_database_of_another_program(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "karen.db")) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    before = (tmp_path / "karen.db").read_bytes()
    learner = create_autonomous_learner(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreNotOurs):
            await collect(learner)
    await learner.close()
    assert (tmp_path / "karen.db").read_bytes() == before


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "karen.db").write_text("Dear diary, " * 1000)
    with pytest.raises(StoreNotOurs, match="not a database"):
        async with create_autonomous_learner(tmp_path):
            pass


async def test_a_home_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(StoreReadOnly, match="file"):
            async with create_autonomous_learner(home):
                pass


async def test_a_database_that_cannot_be_written(taught_home: Path, make_learner: MakeLearner) -> None:
    url = f"sqlite:///file:{taught_home / 'karen.db'}?mode=ro&uri=true"
    learner = make_learner(store__url=url)
    with pytest.raises(StoreReadOnly, match="right to write"):
        await collect(learner)
    await learner.close()


async def test_a_locked_database_is_reported_and_works_after_the_release(make_learner: MakeLearner) -> None:
    async with make_learner(store__busy_timeout_s=0.05) as learner:
        await learner.analyze(ACME, "hello")
        with closing(sqlite3.connect(learner.layout.database, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreLocked, match="busy_timeout_s"):
                await collect(learner, turn_id="t1")
            with pytest.raises(StoreLocked) as caught:
                await learner.trigger_learning_cycle(ACME)
            assert caught.value.backup_path == (await learner.status(ACME)).champion.backup_path  # type: ignore[union-attr]
            assert not (await learner.analyze(ACME, "hello")).degraded
            holder.execute("ROLLBACK")
        assert await learner.store.get_turn(ACME, "t1") is None
        assert await collect(learner, turn_id="t1")
        result = await learner.trigger_learning_cycle(ACME)
        assert result.error_message == "there is nothing new to learn"
