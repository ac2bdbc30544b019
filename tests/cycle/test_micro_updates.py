"""Micro-updates: a provisional version serves until a decision confirms or ends it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from karen_learner.errors import DeploymentError
from karen_learner.learner import AutonomousLearner
from karen_learner.records import LearningCycleResult, ModelVersion

ACME = "acme"
MakeLearner = Callable[..., AutonomousLearner]
CORRECTED = "how much have i got on {}"
THINGS = ("monday", "tuesday", "friday", "sunday", "easter", "june", "july", "may", "march", "april", "today",
          "sunset", "winter", "summer", "autumn", "spring")  # fmt: skip
REJECT: dict[str, Any] = {"gate__gates": ["budgets"], "gate__max_model_bytes": 1}
ACCEPT: dict[str, Any] = {"gate__gates": []}


async def correct(
    learner: AutonomousLearner, things: tuple[str, ...] = THINGS, label: str = "balance"
) -> None:
    for number, thing in enumerate(things):
        await learner.collect_conversation_metadata(
            ACME, CORRECTED.format(thing), "Aha.", f"user {number}",
            {"satisfaction_score": 0.1, "corrected_intent": label},
        )  # fmt: skip


async def versions_of(learner: AutonomousLearner) -> tuple[ModelVersion, ModelVersion | None]:
    status = await learner.status(ACME)
    assert status.champion is not None
    return status.champion, status.provisional


async def updated(learner: AutonomousLearner) -> LearningCycleResult:
    """A micro-update on the corrections."""
    await correct(learner)
    result = await learner.trigger_learning_cycle(ACME, mode="micro")
    assert result.status == "deployed", result.error_message
    return result


@pytest.fixture(params=[ACCEPT, REJECT], ids=["accepted", "rejected"])
async def decided(
    request: pytest.FixtureRequest, make_learner: MakeLearner
) -> AsyncIterator[tuple[AutonomousLearner, str]]:
    """A learner whose gates accept or reject each candidate, and the status of its cycles."""
    async with make_learner(**request.param) as learner:
        yield learner, "deployed" if request.param is ACCEPT else "rejected"


async def test_it_serves_while_its_examples_stay_pending(acme: AutonomousLearner) -> None:
    champion, _ = await versions_of(acme)
    result = await updated(acme)
    assert (result.mode, result.training_examples) == ("micro", len(THINGS))
    assert result.verdict is not None
    assert result.verdict.decision == "provisional"
    assert result.verdict.risk is None, "the stated risk does not cover it"
    kept, provisional = await versions_of(acme)
    assert kept == champion
    assert provisional is not None
    assert (provisional.version, provisional.parent) == (result.model_version, champion.version)
    assert (provisional.provisional, provisional.scores) == (True, {})
    answer = await acme.analyze(ACME, CORRECTED.format("noon"))
    assert (answer.intent, answer.model_version) == ("balance", provisional.version)
    assert (await acme.status(ACME)).counts.examples["pending"] == len(THINGS)
    lineage = {name async for name in acme.store.lineage(ACME, provisional.version)}
    assert len(lineage) == result.training_examples + result.replay_examples


async def test_the_next_decision_confirms_or_ends_it(decided: tuple[AutonomousLearner, str]) -> None:
    learner, status = decided
    champion, _ = await versions_of(learner)
    update = await updated(learner)
    result = await learner.trigger_learning_cycle(ACME)
    assert (result.status, result.previous_version) == (status, champion.version)
    now, provisional = await versions_of(learner)
    assert provisional is None
    assert (await learner.analyze(ACME, "hello")).model_version == now.version == result.model_version
    counts = (await learner.status(ACME)).counts.examples
    if status == "deployed":
        assert now.parent == champion.version
        assert counts.get("pending", 0) == 0
    else:
        assert now == champion
        assert counts["pending"] == len(THINGS)
        assert result.error_message is not None
        assert f"serves again instead of the provisional {update.model_version}" in result.error_message


async def test_a_second_one_is_a_cycle_with_a_decision(decided: tuple[AutonomousLearner, str]) -> None:
    learner, status = decided
    await updated(learner)
    result = await learner.trigger_learning_cycle(ACME, mode="micro")
    assert (result.mode, result.status) == ("incremental", status)
    assert (await versions_of(learner))[1] is None


async def test_after_a_rejection_only_newer_examples_are_learned(make_learner: MakeLearner) -> None:
    async with make_learner(**REJECT) as learner:
        await correct(learner, THINGS[:12])
        assert (await learner.trigger_learning_cycle(ACME)).status == "rejected"
        skipped = await learner.trigger_learning_cycle(ACME, mode="micro", force_training=True)
        assert (skipped.status, skipped.error_message) == (
            "skipped",
            "no example is newer than the last decision",
        )
        await correct(learner, THINGS[12:])
        result = await learner.trigger_learning_cycle(ACME, mode="micro", force_training=True)
        assert (result.status, result.training_examples) == ("deployed", len(THINGS) - 12)


async def test_harm_rejects_it_and_changes_nothing(make_learner: MakeLearner) -> None:
    async with make_learner(learning__replay_examples=0, training__learn_rate=0.1) as learner:
        before = await versions_of(learner)
        for number in range(40):
            await learner.collect_conversation_metadata(
                ACME, f"what is my balance number {number}", "ok", f"user {number}",
                {"satisfaction_score": 0.1, "corrected_intent": "travel"},
            )  # fmt: skip
        result = await learner.trigger_learning_cycle(ACME, mode="micro")
        assert result.status == "rejected", result.verdict
        assert result.verdict is not None
        assert result.verdict.decision == "worse"
        assert await versions_of(learner) == before
        examples = (await learner.status(ACME)).counts.examples
        assert examples["pending"] == result.training_examples


async def test_a_rollback_ends_it_and_its_examples_wait(acme: AutonomousLearner) -> None:
    champion, _ = await versions_of(acme)
    update = await updated(acme)
    assert (await acme.rollback(ACME)).version == champion.version
    assert await versions_of(acme) == (champion, None)
    assert (await acme.analyze(ACME, "hello")).model_version == champion.version
    counts = (await acme.status(ACME)).counts
    assert (counts.examples.get("pending", 0), counts.waiting) == (0, len(THINGS))
    with pytest.raises(DeploymentError, match="no gate has judged"):
        await acme.rollback(ACME, version=update.model_version)
    assert await acme.release(ACME) == len(THINGS)


async def test_another_process_serves_it_and_a_damaged_one_is_ended(
    acme: AutonomousLearner, make_learner: MakeLearner
) -> None:
    champion, _ = await versions_of(acme)
    update = await updated(acme)
    async with make_learner() as other:
        assert (await other.analyze(ACME, "hello")).model_version == update.model_version
    _, provisional = await versions_of(acme)
    assert provisional is not None
    assert provisional.backup_path is not None
    shutil.rmtree(provisional.path)
    provisional.backup_path.unlink()
    async with make_learner() as other:
        assert (await other.analyze(ACME, "hello")).model_version == champion.version
        assert await versions_of(other) == (champion, None)


async def test_withdrawn_examples_end_it(acme: AutonomousLearner) -> None:
    champion, _ = await versions_of(acme)
    await updated(acme)
    for turn in [turn async for turn in acme.store.turns(ACME)]:
        await acme.add_feedback(ACME, turn.turn_id, {"consent": False})
    result = await acme.trigger_learning_cycle(ACME)
    assert (result.status, result.model_version) == ("skipped", champion.version)
    assert await versions_of(acme) == (champion, None)


async def test_a_candidate_that_is_probably_better_serves_and_is_no_champion(
    acme: AutonomousLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karen_learner.validation.likely.LIKELY", 1.0)
    champion, _ = await versions_of(acme)
    await correct(acme, THINGS[:4])
    first = await acme.trigger_learning_cycle(ACME, force_training=True)
    assert first.verdict is not None
    assert (first.status, first.verdict.decision) == ("deployed", "provisional")
    again = await acme.trigger_learning_cycle(ACME)
    assert again.status == "skipped", "no example is newer than the decision"
    await correct(acme, THINGS[4:6])
    second = await acme.trigger_learning_cycle(ACME, force_training=True)
    now, provisional = await versions_of(acme)
    assert (second.status, now) == ("deployed", champion)
    assert provisional is not None
    assert provisional.version == second.model_version != first.model_version
    assert (await acme.status(ACME)).counts.examples["pending"] == 6
    monkeypatch.setattr("karen_learner.validation.likely.LIKELY", 0.0)
    await correct(acme, THINGS[6:8])
    third = await acme.trigger_learning_cycle(ACME, force_training=True)
    assert (third.status, third.model_version) == ("rejected", second.model_version)
    assert (await acme.analyze(ACME, "hello")).model_version == second.model_version
    await correct(acme, THINGS[8:12])
    update = await acme.trigger_learning_cycle(ACME, mode="micro", force_training=True)
    assert (update.mode, update.status) == ("micro", "deployed"), "no gate decides about a micro-update"
    _, provisional = await versions_of(acme)
    assert provisional is not None
    assert provisional.version == update.model_version != second.model_version
    assert (await acme.rollback(ACME)).version == champion.version
    assert (await acme.status(ACME)).counts.waiting == 10
