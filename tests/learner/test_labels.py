"""Changed labels of a tenant with a live model."""

from __future__ import annotations

from karen_learner.learner import AutonomousLearner
from tests.conftest import ACME, MakeLearner

BALANCE = "what is my balance red"


async def test_the_live_model_answers_with_the_present_names(acme: AutonomousLearner) -> None:
    assert (await acme.analyze(ACME, BALANCE)).intent == "balance"
    planned = await acme.rename_label(ACME, "balance", "account", dry_run=True)
    assert (planned.examples, planned.done) == (15, False)
    assert (await acme.analyze(ACME, BALANCE)).intent == "balance"
    await acme.rename_label(ACME, "balance", "account")
    found = await acme.analyze_many(ACME, [BALANCE])
    assert [one.intent for one in found] == ["account"]
    metadata = await acme.collect_conversation_metadata(ACME, BALANCE, "", "ann")
    assert metadata.intent_detected == "account"
    confidence = found[0].intent_confidence
    assert 0 < confidence == metadata.intent_confidence
    await acme.retire_label(ACME, "account")
    found = await acme.analyze_many(ACME, [BALANCE])
    assert (found[0].intent, found[0].intent_confidence) == (None, 0.0)


async def test_evaluations_use_the_present_names(acme: AutonomousLearner) -> None:
    texts = [{"text": BALANCE, "intent": "balance"}, {"text": "a flight to red please", "intent": "travel"}]
    before = await acme.evaluate(ACME, texts)
    await acme.rename_label(ACME, "balance", "account")
    renamed = [{**texts[0], "intent": "account"}, texts[1]]
    for lines in (texts, renamed):
        found = await acme.evaluate(ACME, lines)
        assert found.scores.intent_accuracy == before.scores.intent_accuracy == 1.0
        assert found.unknown_labels == {}


async def test_another_process_answers_with_the_present_names(
    acme: AutonomousLearner, make_learner: MakeLearner
) -> None:
    async with make_learner(serving__refresh_s=0.05) as other:
        assert (await other.analyze(ACME, BALANCE)).intent == "balance"
        await acme.rename_label(ACME, "balance", "account")
        while (await other.analyze(ACME, BALANCE)).intent != "account":
            await other.events.drain()
    async with make_learner() as later:
        assert (await later.analyze(ACME, BALANCE)).intent == "account"


async def test_the_next_cycle_trains_in_full_and_forgets_the_former_name(acme: AutonomousLearner) -> None:
    await acme.merge_labels(ACME, "greeting", "travel")
    rows = [row for row in await acme.labels(ACME) if row.task == "intent"]
    assert [(row.label, row.examples, row.formerly) for row in rows] == [
        ("balance", 15, ()), ("travel", 30, ("greeting",)),
    ]  # fmt: skip
    await acme.rename_label(ACME, "balance", "account")
    await acme.collect_conversation_metadata(
        ACME, "my account red now", "", "ann", {"corrected_intent": "balance"}
    )
    plan = await acme.plan_learning_cycle(ACME, mode="incremental")
    assert plan.mode == "full"
    assert "labels have changed: `karen-learner learn --force`" in (await acme.status(ACME)).advice
    result = await acme.trigger_learning_cycle(ACME, mode="incremental", force_training=True)
    assert (result.mode, result.status) == ("full", "deployed"), result.verdict
    assert {(row.label, row.in_model) for row in await acme.labels(ACME) if row.task == "intent"} == {
        ("account", True), ("travel", True),
    }  # fmt: skip
    answers = {one.intent for one in await acme.analyze_many(ACME, [BALANCE, "good morning red friend"])}
    assert answers == {"account", "travel"}
    assert "labels have changed" not in (await acme.status(ACME)).advice
    assert (await acme.plan_learning_cycle(ACME, mode="incremental")).mode == "incremental"
