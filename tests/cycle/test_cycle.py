"""Learning cycles: decisions, clean-up, and failures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import DocBin

from karen_learner.curation import Curator
from karen_learner.curation.selection import REPLAY_POOL
from karen_learner.deployment import Blank, Deployer, LoadedCandidate
from karen_learner.errors import (
    FencedOut,
    InvalidInput,
    StoreError,
    UnknownTenant,
)
from karen_learner.events import (
    CycleFinished,
    CycleStarted,
    Event,
    StageStarted,
    TrainingProgressed,
)
from karen_learner.learner import AutonomousLearner
from karen_learner.models.files import folder_digest
from karen_learner.models.live import LiveModel
from karen_learner.models.versions import read_manifest, verify
from karen_learner.records import ModelVersion, Stage
from karen_learner.records.training import PipelineSpec, PredictJob, PredictReport
from karen_learner.training import LocalWorker
from karen_learner.validation.stage import Validated, ValidationStage
from tests.conftest import gold_examples
from tests.databases import contents, execute, place_of

ACME = "acme"
MakeLearner = Callable[..., AutonomousLearner]
SONGS = ("jazz", "rock", "folk", "punk", "soul", "blues", "disco", "opera", "techno", "swing", "metal", "ska",
         "waltz", "tango", "samba", "polka")  # fmt: skip
WITHOUT_QUALITY_GATE = {
    "gate__gates": [],
}
"""For tests that are not about the gate: with eight replayed examples a small task may get worse."""


async def teach_songs(learner: AutonomousLearner, tmp_path: Path) -> None:
    """Gold of a new intent, pending for the next cycle."""
    path = tmp_path / "songs.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"play some {s} music", "intent": "music"}) + "\n" for s in SONGS)
    )
    assert (await learner.ingest(ACME, path)).examples == len(SONGS)


async def correct(learner: AutonomousLearner, text: str, count: int, **feedback: Any) -> None:
    """Turns of `count` users with the same correction."""
    for number in range(count):
        await learner.collect_conversation_metadata(
            ACME, text.format(number), "ok", f"user {number}", {"satisfaction_score": 0.1, **feedback}
        )


async def champion_of(learner: AutonomousLearner) -> ModelVersion:
    found = (await learner.status(ACME)).champion
    assert found is not None
    return found


def leftovers(learner: AutonomousLearner) -> list[str]:
    """Files that a cycle must remove: staging folders, raw lines, unfinished archives."""
    home = learner.layout.home
    found = [*home.glob("models/*/.staging/*"), *home.glob("models/*/.restoring/*")]
    found += [*home.glob("corpus/**/*.jsonl"), *home.glob("model_backups/*/*.partial")]
    return [str(path) for path in found]


def on(learner: AutonomousLearner, kind: type[Event], act: Callable[[], object], **fields: Any) -> None:
    """Act once, at the first event of a kind with these fields."""

    async def subscriber(event: Event) -> None:
        if all(getattr(event, name) == value for name, value in fields.items()):
            end()
            done = act()
            if asyncio.iscoroutine(done):
                await done

    end = learner.events.subscribe(subscriber, to=kind)


def before_stage(learner: AutonomousLearner, stage: Stage, act: Callable[[], Awaitable[object]]) -> None:
    """Await `act` before the cycle journals a stage."""
    advance = learner.store.advance_cycle

    async def act_then_advance(tenant_id: str, cycle_id: str, to: Stage, *, token: int) -> None:
        if to == stage:
            await act()
        await advance(tenant_id, cycle_id, to, token=token)

    learner.store.advance_cycle = act_then_advance  # type: ignore[method-assign]


# Start conditions -------------------------------------------------------------------------------


async def test_a_cycle_is_skipped_below_the_threshold_and_can_be_forced(acme: AutonomousLearner) -> None:
    before = await champion_of(acme)
    await correct(acme, "what is my balance number {}", 4, corrected_intent="balance")
    skipped = await acme.trigger_learning_cycle(ACME, reason="too early")
    assert (skipped.status, skipped.reason) == ("skipped", "too early")
    assert skipped.error_message is not None
    assert "learning.min_data_threshold is 10" in skipped.error_message
    assert skipped.curation is not None
    assert skipped.curation.accepted == 4
    assert await champion_of(acme) == before
    forced = await acme.trigger_learning_cycle(ACME, force_training=True)
    assert forced.status in ("deployed", "rejected")
    assert forced.training_examples == 4
    assert forced.replay_examples > 0


async def test_a_cycle_without_new_examples_is_skipped(acme: AutonomousLearner) -> None:
    for force in (False, True):
        result = await acme.trigger_learning_cycle(ACME, force_training=force)
        assert (result.status, result.error_message) == ("skipped", "there is nothing new to learn")
    assert leftovers(acme) == []


async def test_a_full_cycle_can_be_forced_without_new_examples(acme: AutonomousLearner) -> None:
    result = await acme.trigger_learning_cycle(ACME, mode="full", force_training=True)
    assert result.mode == "full"
    assert result.status in ("deployed", "rejected")
    assert (result.training_examples, result.replay_examples > 20) == (0, True)


async def test_a_full_cycle_trains_on_all_examples(acme: AutonomousLearner, tmp_path: Path) -> None:
    await teach_songs(acme, tmp_path)
    result = await acme.trigger_learning_cycle(ACME, mode="full")
    assert (result.mode, result.status) == ("full", "deployed"), result.error_message
    assert result.training_examples > 5
    assert result.replay_examples > 20
    assert (await acme.analyze(ACME, "play some jazz music")).intent == "music"


async def test_an_unknown_tenant_is_reported(acme: AutonomousLearner) -> None:
    for call in (acme.trigger_learning_cycle, acme.plan_learning_cycle):
        with pytest.raises(UnknownTenant, match="'nobody'"):
            await call("nobody")
    assert await acme.tenants() == [ACME]


async def test_an_unknown_mode_is_refused_and_changes_nothing(acme: AutonomousLearner) -> None:
    before = await contents(place_of(acme))
    with pytest.raises(InvalidInput, match=r"'quick'.*auto, incremental, full"):
        await acme.trigger_learning_cycle(ACME, mode="quick")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="'quick'"):
        await acme.plan_learning_cycle(ACME, mode="quick")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="'quick'"):
        await acme.bootstrap(ACME, [{"text": "new", "intent": "new"}], mode="quick")  # type: ignore[arg-type]
    assert await contents(place_of(acme)) == before


async def test_a_plan_changes_nothing(acme: AutonomousLearner) -> None:
    await correct(acme, "what is my balance number {}", 12, corrected_intent="balance")
    before, files = await contents(place_of(acme)), folder_digest(acme.layout.home / "models")
    for mode in ("auto", "incremental", "full"):
        plan = await acme.plan_learning_cycle(ACME, mode=mode)
        assert (plan.would_run, plan.training_examples) == (True, 12)
        assert plan.curation.accepted == 12
        assert plan.judged_texts == (await acme.status(ACME)).counts.gold > 0
    assert await contents(place_of(acme)) == before
    assert folder_digest(acme.layout.home / "models") == files
    assert acme.training_pipeline.worker_pid is None


# Accepted or rejected ---------------------------------------------------------------------------


async def test_an_accepted_cycle_publishes_its_events_in_order(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    published: list[Event] = []
    acme.events.subscribe(published.append)
    before = await champion_of(acme)
    await teach_songs(acme, tmp_path)
    result = await acme.trigger_learning_cycle(ACME)
    await acme.events.drain()
    assert result.status == "deployed", result.error_message
    assert result.model_improved
    assert result.previous_version == before.version
    assert result.backup_path == before.backup_path
    steps = [event.stage if isinstance(event, StageStarted) else type(event).__name__ for event in published]
    passes = [event for event in published if isinstance(event, TrainingProgressed)]
    assert steps == [
        "CycleStarted", "curating", "training", *["TrainingProgressed"] * len(passes), "validating",
        "deploying", "ModelDeployed", "CycleFinished",
    ]  # fmt: skip
    assert list(result.stage_seconds) == ["curating", "training", "validating", "deploying"]
    models: dict[int | None, list[tuple[str, int]]] = {}
    for one in passes:
        models.setdefault(one.shadow, []).append((one.task, one.iteration))
    assert list(models) == [0, 1, None], "two shadows, then the served model"
    expected = [(task, number) for task in ("intent", "sentiment") for number in range(1, 5)]
    assert all(seen == expected for seen in models.values())
    assert {event.cycle_id for event in published if isinstance(event, (CycleStarted, StageStarted))} == {
        result.cycle_id
    }
    assert isinstance(published[-1], CycleFinished)
    assert published[-1].result == result
    assert leftovers(acme) == []


async def test_other_feedback_is_decided_after_a_new_label_at_once(
    make_learner: MakeLearner, tmp_path: Path
) -> None:
    async with make_learner(**WITHOUT_QUALITY_GATE) as learner:
        before = await champion_of(learner)
        await teach_songs(learner, tmp_path)
        await correct(learner, "what is my balance number {}", 12, corrected_intent="balance")
        result = await learner.trigger_learning_cycle(ACME)
        others, first = (await learner.history(ACME))[:2]
        assert others == result
        assert (first.status, first.new_labels, first.training_examples) == (
            "deployed",
            ("music",),
            len(SONGS),
        )
        assert (others.status, others.new_labels, others.training_examples) == ("deployed", (), 12)
        assert (first.previous_version, others.previous_version) == (before.version, first.model_version)
        spent = [one.verdict.risk.spent for one in (first, others) if one.verdict and one.verdict.risk]
        assert (len(spent), spent[0]) == (2, 0.0)
        assert spent[1] > 0.0
        assert leftovers(learner) == []


async def test_few_examples_wait_after_a_new_label(acme: AutonomousLearner, tmp_path: Path) -> None:
    await teach_songs(acme, tmp_path)
    await correct(acme, "what is my balance number {}", 4, corrected_intent="balance")
    result = await acme.trigger_learning_cycle(ACME)
    assert (result.status, result.new_labels, result.pending_examples) == (
        "deployed",
        ("music",),
        len(SONGS) + 4,
    )
    assert (await acme.history(ACME))[0] == result
    assert (await acme.status(ACME)).counts.examples["pending"] == 4


async def test_a_new_label_is_returned_if_the_other_feedback_is_rejected(
    make_learner: MakeLearner, tmp_path: Path
) -> None:
    async with make_learner(learning__meaning_quorum=100) as learner:
        await teach_songs(learner, tmp_path)
        await correct(learner, "a flight to {} please", 40, corrected_intent="balance")
        result = await learner.trigger_learning_cycle(ACME)
        others, first = (await learner.history(ACME))[:2]
        assert (others.status, others.new_labels) == ("rejected", ()), others.verdict
        assert others.training_examples == 40
        assert result == first
        assert (result.status, result.new_labels) == ("deployed", ("music",))
        assert result.model_version == (await champion_of(learner)).version


async def test_a_slow_subscriber_receives_events_in_order(acme: AutonomousLearner, tmp_path: Path) -> None:
    published: list[tuple[int | None, str, int]] = []

    async def slow(event: Event) -> None:
        await asyncio.sleep(0.02 if len(published) == 0 else 0)
        assert isinstance(event, TrainingProgressed)
        published.append((event.shadow, event.task, event.iteration))

    acme.events.subscribe(slow, to=TrainingProgressed)
    await teach_songs(acme, tmp_path)
    await acme.trigger_learning_cycle(ACME)
    await acme.events.drain()
    assert published == [
        (shadow, task, number)
        for shadow in (0, 1, None)
        for task in ("intent", "sentiment")
        for number in range(1, 5)
    ]


async def test_the_corpora_of_a_cycle_can_be_read(acme: AutonomousLearner, tmp_path: Path) -> None:
    await teach_songs(acme, tmp_path)
    result = await acme.trigger_learning_cycle(ACME)
    folder = acme.layout.corpus(ACME, result.cycle_id)
    assert folder.parent.parent == acme.layout.home / "corpus"
    assert [path.name for path in folder.glob("*.*")] == ["train.spacy"]
    docs = list(DocBin().from_disk(folder / "train.spacy").get_docs(spacy.blank("en").vocab))
    assert len(docs) == result.training_examples + result.replay_examples
    assert any(doc.cats == {"music": 1.0} for doc in docs)
    assert not any(doc.user_data for doc in docs)


async def test_the_result_counts_replayed_examples_and_not_the_pool(
    make_learner: MakeLearner, tmp_path: Path
) -> None:
    overrides: dict[str, float] = {"learning__replay_examples": 8, "training__continuing_n_iter": 30}
    async with make_learner(**overrides, **WITHOUT_QUALITY_GATE) as learner:
        learned = sum((await learner.store.strata(ACME, state="learned")).values())
        await teach_songs(learner, tmp_path)
        plan = await learner.plan_learning_cycle(ACME)
        assert plan.replay_examples == 8 * REPLAY_POOL < learned
        result = await learner.trigger_learning_cycle(ACME)
        assert result.status == "deployed", result.error_message
        assert 8 <= result.replay_examples <= 2 * 8 < plan.replay_examples  # intent and sentiment
        version = await champion_of(learner)
        ids = [one async for one in learner.store.lineage(ACME, version.version)]
        assert len(ids) == result.training_examples + result.replay_examples
        counts = read_manifest(version.path).counts
        assert (counts["new"], counts["replay"]) == (result.training_examples, result.replay_examples)


async def test_harmful_examples_are_rejected_and_quarantined_after_the_second_time(
    make_learner: MakeLearner,
) -> None:
    async with make_learner(learning__replay_examples=0, training__learn_rate=0.1) as learner:
        before = await champion_of(learner)
        await correct(learner, "what is my balance number {}", 40, corrected_intent="travel")
        first = await learner.trigger_learning_cycle(ACME)
        assert first.status == "rejected", first.error_message
        assert first.verdict is not None
        assert first.verdict.harmful
        assert (first.model_version, first.model_improved) == (before.version, False)
        assert first.error_message == first.verdict.summary
        counts = (await learner.status(ACME)).counts
        assert (counts.examples.get("pending", 0), counts.examples.get("quarantined", 0)) == (
            first.training_examples,
            0,
        )
        second = await learner.trigger_learning_cycle(ACME)
        assert second.status == "rejected"
        counts = (await learner.status(ACME)).counts
        assert (counts.examples.get("pending", 0), counts.examples["quarantined"]) == (
            0,
            second.training_examples,
        )
        assert await champion_of(learner) == before
        assert verify(before.path, digest=before.digest)
        assert (await learner.analyze(ACME, "what is my balance red")).model_version == before.version
        assert leftovers(learner) == []


async def test_the_journal_has_no_text_of_a_user_who_withdraws_consent(make_learner: MakeLearner) -> None:
    async with make_learner(training__validation_split=0.5, **WITHOUT_QUALITY_GATE) as learner:
        texts = {f"good morning {song} friend" for song in SONGS}
        for text in texts:
            await correct(learner, text, 2, corrected_intent="travel")
        result = await learner.trigger_learning_cycle(ACME, force_training=True)
        assert result.validation is not None
        ids = [name for confusion in result.validation.errors for name in confusion.example_ids]
        shown = await learner.example_texts(ACME, ids)
        assert shown.keys() == set(ids) != set()
        assert set(shown.values()) <= {line["text"] for line in gold_examples()}, "errors are those of gold"
        stored = await contents(place_of(learner))
        assert all(text in stored for text in texts)
        for turn in [turn async for turn in learner.store.turns(ACME)]:
            await learner.add_feedback(ACME, turn.turn_id, {"consent": False})
        stored = await contents(place_of(learner))
        assert result.cycle_id in stored
        assert not [text for text in texts if text in stored]
        assert await learner.example_texts(ACME, ids) == shown
        assert await learner.history(ACME, limit=1) == (result,)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[LiveModel]:
    """The candidates that were loaded, in order."""
    models: list[LiveModel] = []
    load = Deployer.load

    async def watched(deployer: Deployer, candidate: PipelineSpec, blank: Blank) -> LoadedCandidate:
        result = await load(deployer, candidate, blank)
        models.append(result.model)
        return result

    monkeypatch.setattr(Deployer, "load", watched)
    return models


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.01)


async def test_the_loaded_model_of_a_rejected_candidate_is_closed(
    make_learner: MakeLearner, loaded: list[LiveModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    reject = ValidationStage.reject

    async def reject_when_loaded(stage: ValidationStage, validated: Validated) -> int:
        await until(lambda: bool(loaded))  # its folder may be removed before the load otherwise
        return await reject(stage, validated)

    monkeypatch.setattr(ValidationStage, "reject", reject_when_loaded)
    async with make_learner(learning__replay_examples=0, training__learn_rate=0.1) as learner:
        await correct(learner, "what is my balance number {}", 40, corrected_intent="travel")
        assert (await learner.trigger_learning_cycle(ACME)).status == "rejected"
        await asyncio.wait_for(until(lambda: all(model.closed for model in loaded)), timeout=300)
        assert [candidate.version for candidate in loaded] == [None]


async def test_the_loaded_candidate_becomes_the_live_model(
    acme: AutonomousLearner, tmp_path: Path, loaded: list[LiveModel]
) -> None:
    await teach_songs(acme, tmp_path)
    result = await acme.trigger_learning_cycle(ACME, mode="full")
    assert result.status == "deployed", result.error_message
    (candidate,) = loaded
    assert (candidate.closed, candidate.version) == (False, result.model_version)


async def test_examples_relabelled_during_a_cycle_stay_pending(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    await teach_songs(acme, tmp_path)
    path = tmp_path / "singing.jsonl"
    trained_on = {one.text: one async for one in acme.store.examples(ACME, state="pending")}
    relabelled = next(song for song in SONGS if f"play some {song} music" in trained_on)
    text = f"play some {relabelled} music"
    path.write_text(json.dumps({"text": text, "intent": "singing"}) + "\n")

    before_stage(acme, "deploying", lambda: acme.ingest(ACME, path, replace=True))
    result = await acme.trigger_learning_cycle(ACME)
    assert result.status == "deployed", result.error_message
    waiting = [one async for one in acme.store.examples(ACME, state="pending")]
    assert [(one.text, one.intent) for one in waiting] == [(text, "singing")]
    learned = [one async for one in acme.store.examples(ACME, state="learned")]
    assert {one.intent for one in learned if one.text in trained_on} == {"music"}


async def test_examples_of_an_undone_version_wait_for_a_person(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    before = await acme.status(ACME)
    await teach_songs(acme, tmp_path)
    first = await acme.trigger_learning_cycle(ACME)
    assert first.status == "deployed", first.error_message
    assert (await acme.status(ACME)).counts.examples.get("pending", 0) == 0
    await acme.rollback(ACME)
    after = await acme.status(ACME)
    assert after.champion == before.champion
    assert (after.counts.examples.get("pending", 0), after.counts.waiting) == (0, first.training_examples)
    assert after.counts.examples["learned"] == before.counts.examples["learned"]
    assert f"{first.training_examples} examples wait because of a rollback" in after.advice
    assert "`karen-learner release` or `karen-learner discard`" in after.advice
    assert (await acme.trigger_learning_cycle(ACME, force_training=True)).status == "skipped"
    full = await acme.trigger_learning_cycle(ACME, force_training=True, mode="full")
    assert full.status in ("deployed", "rejected"), full.error_message
    assert full.training_examples + full.replay_examples == await learned_train(acme)
    assert (await acme.analyze(ACME, "play some jazz music")).intent != "music"
    assert await acme.release(ACME) == first.training_examples
    assert (await acme.status(ACME)).counts.waiting == 0
    again = await acme.trigger_learning_cycle(ACME)
    assert (again.status, again.training_examples) == ("deployed", first.training_examples)
    assert (await acme.analyze(ACME, "play some jazz music")).intent == "music"


async def learned_train(learner: AutonomousLearner) -> int:
    return sum((await learner.store.strata(ACME, state="learned")).values())


async def test_feedback_of_an_undone_version_is_not_learned_after_a_discard(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    await teach_songs(acme, tmp_path)
    texts = [f"sing a {song} song" for song in SONGS]
    for text in texts:
        await acme.collect_conversation_metadata(
            ACME, text, "ok", f"user {text}", {"corrected_intent": "music"}, turn_id=text
        )
    first = await acme.trigger_learning_cycle(ACME)
    assert first.status == "deployed", first.error_message
    await acme.rollback(ACME)
    for text in texts:  # the same annotation of the same user
        await acme.add_feedback(ACME, text, {"satisfaction_score": 0.1})
    assert (await acme.trigger_learning_cycle(ACME, force_training=True)).status == "skipped"
    assert await acme.discard(ACME) == first.training_examples
    assert await acme.release(ACME) == 0
    after = await acme.status(ACME)
    assert (after.counts.waiting, "rollback" in after.advice) == (0, False)
    assert (await acme.trigger_learning_cycle(ACME, force_training=True)).status == "skipped"
    await acme.trigger_learning_cycle(ACME, force_training=True, mode="full")
    learned = {one.text async for one in acme.store.examples(ACME, state="learned")}
    assert not set(texts) & learned
    await acme.rollback(ACME, first.model_version)
    assert (await acme.status(ACME)).counts.examples["quarantined"] == first.training_examples


async def test_a_roll_forward_ends_the_waiting(acme: AutonomousLearner, tmp_path: Path) -> None:
    await teach_songs(acme, tmp_path)
    first = await acme.trigger_learning_cycle(ACME)
    assert first.status == "deployed", first.error_message
    before = (await acme.status(ACME)).counts.examples
    await acme.rollback(ACME)
    await acme.rollback(ACME, first.model_version)
    after = (await acme.status(ACME)).counts
    assert (after.waiting, after.examples) == (0, before)


async def test_a_damaged_champion_is_repaired_before_training(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    champion = await champion_of(acme)
    await acme.analyze(ACME, "the model is live, and its files are not read again")
    weights = champion.path / "intent" / "model"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    await teach_songs(acme, tmp_path)
    result = await acme.trigger_learning_cycle(ACME)
    assert result.status == "deployed", result.error_message
    assert verify(champion.path, digest=champion.digest)


async def test_damage_during_training_is_repaired(acme: AutonomousLearner, tmp_path: Path) -> None:
    champion = await champion_of(acme)
    weights = champion.path / "intent" / "model"
    on(acme, TrainingProgressed, lambda: weights.write_bytes(weights.read_bytes()[:-1] + b"!"))
    await teach_songs(acme, tmp_path)
    result = await acme.trigger_learning_cycle(ACME)
    assert result.status == "deployed", result.error_message
    assert verify(champion.path, digest=champion.digest)


# Exclusion --------------------------------------------------------------------------------------


async def test_one_cycle_of_a_tenant_at_a_time(
    acme: AutonomousLearner, make_learner: MakeLearner, tmp_path: Path
) -> None:
    await teach_songs(acme, tmp_path)
    started = asyncio.Event()
    on(acme, StageStarted, started.set, stage="training")
    running = asyncio.create_task(acme.trigger_learning_cycle(ACME))
    await started.wait()
    async with make_learner() as other:
        for learner in (acme, other):
            second = await learner.trigger_learning_cycle(ACME, reason="me too")
            assert (second.status, second.reason) == ("skipped", "me too")
            assert second.error_message is not None
            assert "one at a time: held by" in second.error_message
            assert f"(process {os.getpid()}) until 20" in second.error_message
        status = await other.status(ACME)
        assert status.running_cycle is not None
        assert status.running_cycle.stage in ("training", "validating", "deploying")
        assert (await running).status == "deployed"
    assert (await acme.status(ACME)).running_cycle is None


async def test_a_cycle_stops_after_a_takeover(acme: AutonomousLearner, tmp_path: Path) -> None:
    before = await champion_of(acme)
    await teach_songs(acme, tmp_path)

    async def take_over() -> None:
        await execute(place_of(acme), "UPDATE leases SET token = token + 1, owner = 'elsewhere/1/x'")

    on(acme, TrainingProgressed, take_over)
    with pytest.raises(FencedOut) as caught:
        await acme.trigger_learning_cycle(ACME)
    assert caught.value.backup_path == before.backup_path
    assert await champion_of(acme) == before
    assert (await acme.status(ACME)).counts.examples.get("pending", 0) > 0


# Failures ---------------------------------------------------------------------------------------


async def test_a_killed_worker_fails_the_cycle_and_changes_nothing(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    before = await champion_of(acme)
    await teach_songs(acme, tmp_path)
    on(acme, TrainingProgressed, lambda: os.kill(acme.training_pipeline.worker_pid or 0, signal.SIGKILL))
    failed = await acme.trigger_learning_cycle(ACME)
    assert failed.status == "failed"
    assert failed.error_message is not None
    assert "worker ended with code -9" in failed.error_message
    assert failed.replay_examples == 0  # no training finished
    assert await champion_of(acme) == before
    assert verify(before.path, digest=before.digest)
    assert leftovers(acme) == []
    again = await acme.trigger_learning_cycle(ACME)
    assert again.status == "deployed", again.error_message
    metrics = await acme.get_learning_metrics(ACME)
    assert (metrics.failed_cycles, metrics.successful_cycles) == (1, 2)


async def test_a_worker_that_hangs_fails_the_cycle_and_the_next_one_runs(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    before = await champion_of(acme)
    await teach_songs(acme, tmp_path)
    await acme.training_pipeline.warm_up()

    def hang() -> None:
        os.kill(acme.training_pipeline.worker_pid or 0, signal.SIGSTOP)

    on(acme, StageStarted, hang, stage="training")
    acme.training_config.time_limit_s = 2.0
    result = await acme.trigger_learning_cycle(ACME)
    assert result.status == "failed"
    assert "training.time_limit_s (2 seconds)" in (result.error_message or "")
    assert await champion_of(acme) == before
    assert leftovers(acme) == []
    acme.training_config.time_limit_s = 600.0
    assert (await acme.trigger_learning_cycle(ACME)).status == "deployed"


async def test_a_bug_in_a_stage_is_a_failed_cycle(
    acme: AutonomousLearner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    before = await champion_of(acme)
    await teach_songs(acme, tmp_path)
    monkeypatch.setattr("karen_learner.validation.ModelValidator.judge", broken)
    result = await acme.trigger_learning_cycle(ACME)
    assert (result.status, result.error_message) == ("failed", "ZeroDivisionError: see the log")
    assert "ZeroDivisionError: a bug" in caplog.text
    assert await champion_of(acme) == before
    assert leftovers(acme) == []


async def test_a_cancelled_cycle_is_journalled_and_the_next_one_runs(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    before = await champion_of(acme)
    await teach_songs(acme, tmp_path)
    running = asyncio.create_task(acme.trigger_learning_cycle(ACME))
    on(acme, TrainingProgressed, running.cancel)
    with pytest.raises(asyncio.CancelledError):
        await running
    status = await acme.status(ACME)
    assert status.running_cycle is None
    assert status.last_cycle is not None
    assert status.last_cycle.status == "failed"
    assert status.last_cycle.error_message is not None
    assert "cancelled while it was training" in status.last_cycle.error_message
    assert status.champion == before
    assert leftovers(acme) == []
    assert (await acme.trigger_learning_cycle(ACME)).status == "deployed"


async def test_a_cycle_cancelled_while_it_waits_for_the_lease_does_not_keep_it(
    acme: AutonomousLearner,
) -> None:
    for steps in range(12):
        running = asyncio.create_task(acme.trigger_learning_cycle(ACME))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        result = await acme.trigger_learning_cycle(ACME)
        assert result.error_message == "there is nothing new to learn"
    assert (await acme.status(ACME)).running_cycle is None


async def test_closing_ends_a_cycle_and_journals_it(make_learner: MakeLearner, tmp_path: Path) -> None:
    closing: list[asyncio.Task[None]] = []
    learner = make_learner()
    before = await champion_of(learner)
    await teach_songs(learner, tmp_path)
    on(learner, TrainingProgressed, lambda: closing.append(asyncio.create_task(learner.close())))
    result = await learner.trigger_learning_cycle(ACME)
    assert result.status == "failed"
    await closing[0]
    async with make_learner() as after:
        assert (await after.history(ACME))[0] == result
        assert await champion_of(after) == before
        assert (await after.trigger_learning_cycle(ACME)).status == "deployed"


async def test_a_failed_prediction_fails_the_cycle_and_changes_nothing(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    """The worker is killed while it predicts."""
    before = await champion_of(acme)
    await teach_songs(acme, tmp_path)
    predict = LocalWorker.predict

    async def killed(worker: LocalWorker, job: PredictJob) -> PredictReport:
        await worker.start()
        prediction = asyncio.create_task(predict(worker, job))
        await asyncio.sleep(0.05)
        if worker.pid is not None:
            os.kill(worker.pid, signal.SIGKILL)
        return await prediction

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalWorker, "predict", killed)
        failed = await acme.trigger_learning_cycle(ACME)
    assert failed.status == "failed"
    assert await champion_of(acme) == before
    assert leftovers(acme) == []
    again = await acme.trigger_learning_cycle(ACME)
    assert again.status == "deployed", again.error_message


async def test_a_failed_selection_keeps_the_counts_of_curation(
    acme: AutonomousLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise StoreError("the store fails")

    await correct(acme, "what is my balance number {}", 4, corrected_intent="balance")
    monkeypatch.setattr(Curator, "select", fails)
    result = await acme.trigger_learning_cycle(ACME, force_training=True)
    assert (result.status, result.error_message) == ("failed", "the store fails")
    assert result.curation is not None
    assert result.curation.accepted == 4


# Kills of the process -----------------------------------------------------------------------------

VICTIM = """
import asyncio, json, os, signal, sys
from karen_learner import create_autonomous_learner
from karen_learner.events import Event

home, overrides, kind, stage = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]

async def main():
    learner = create_autonomous_learner(home, overrides=overrides)

    def die(event: Event) -> None:
        if type(event).__name__ == kind and getattr(event, "stage", "") == stage:
            print(learner.training_pipeline.worker_pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    learner.events.subscribe(die)
    await learner.trigger_learning_cycle("acme")

asyncio.run(main())
"""


def runs(pid: int) -> bool:
    """Whether the process runs. A zombie does not run."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until(done: Callable[[], bool]) -> Iterator[None]:
    for _ in range(6000):  # times 0.05 s: the worker has a low priority
        if done():
            return
        yield
    raise AssertionError("it did not happen")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("kind", "stage", "status"),
    [
        ("TrainingProgressed", "", "failed"),
        ("StageStarted", "deploying", "failed"),
        ("ModelDeployed", "", "deployed"),
    ],
)
async def test_a_cycle_survives_kill_9(
    make_learner: MakeLearner, taught_home: Path, tmp_path: Path, kind: str, stage: str, status: str
) -> None:
    async with make_learner() as learner:
        before = await champion_of(learner)
        await teach_songs(learner, tmp_path)
        overrides = json.dumps({**learner.settings.dump(), "store": {}})
    victim = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", VICTIM, str(taught_home), overrides, kind, stage],
        stdout=subprocess.PIPE, timeout=600, check=False,
    )  # fmt: skip
    assert victim.returncode == -signal.SIGKILL
    worker = int(victim.stdout)
    async with make_learner() as learner:
        last = (await learner.store.cycles(ACME, limit=1))[0]
        assert last.stage == "interrupted"
        assert last.result is not None
        assert last.result.status == status
        assert "the process ended" in (last.result.error_message or "")
        assert await learner.store.unfinished_cycles(ACME) == []
        assert leftovers(learner) == []
        now = await champion_of(learner)
        assert (now.version == before.version) is (status == "failed")
        assert verify(now.path, digest=now.digest)
        folders = {path.name for path in learner.layout.models(ACME).iterdir() if path.name[0] == "v"}
        assert folders == {before.version, now.version}
        assert not (await learner.analyze(ACME, "hello")).degraded
        for _ in wait_until(lambda: not runs(worker)):
            await asyncio.sleep(0.05)
        if status == "failed":
            assert (await learner.trigger_learning_cycle(ACME)).status == "deployed"


async def test_the_lease_of_a_killed_process_is_free(make_learner: MakeLearner) -> None:
    """The lease of an ended process of this host is free before its expiry."""
    script = "import os; from karen_learner.memory import owner_of; print(owner_of(os.getpid()))"
    dead = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True).stdout.strip()
    async with make_learner() as learner:
        held = f"UPDATE leases SET owner = '{dead}', expires_at = expires_at + 3600000000"
        await execute(place_of(learner), held)
        result = await learner.trigger_learning_cycle(ACME)
    assert result.error_message == "there is nothing new to learn"
