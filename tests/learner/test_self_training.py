"""A learner hears turns that nobody gave feedback on, and keeps account of them."""

from pathlib import Path
from typing import Any

import pytest

from karen_learner import AutonomousLearner, create_autonomous_learner

ACME = "acme"
TOPICS = {
    "animal": ("dog", "cat", "horse", "cow", "goat", "duck", "fox", "wolf", "bear", "mouse"),
    "colour": ("red", "green", "blue", "black", "white", "brown", "pink", "grey", "violet", "orange"),
}
TOLD = ("i saw a {} {}", "my {} {} again", "that {} {} please", "which {} {} was it", "no {} {} here",
        "every {} {} counts", "buy the {} {}", "a {} {} at last")  # fmt: skip
SETTINGS: dict[str, Any] = {
    "gate.max_cross_validated": 0,
    "learning.dev_share": 0.5,  # enough to calibrate by
    "training.false_alarm_rate": 0.0,
    "training.language": "xx",
}


def gold() -> list[dict[str, str]]:
    return [
        {"text": told.format(thing, topic), "intent": topic}
        for topic, things in TOPICS.items()
        for thing in things
        for told in TOLD
    ]


async def talk(learner: AutonomousLearner) -> None:
    """Turns without feedback: six that are clear, one that repeats an example, one without consent."""
    for number, thing in enumerate(TOPICS["animal"][:6]):
        await learner.collect_conversation_metadata(
            ACME, f"again i saw a {thing} animal here", "Oh.", "ann", turn_id=f"clear {number}"
        )
    await learner.collect_conversation_metadata(
        ACME, gold()[0]["text"], "Oh.", "ann", turn_id="known already"
    )
    await learner.collect_conversation_metadata(
        ACME, "yesterday secret animal", "Oh.", "bob", {"consent": False}, turn_id="refused"
    )


async def correct(learner: AutonomousLearner) -> None:
    for number, thing in enumerate(TOPICS["colour"]):
        await learner.collect_conversation_metadata(
            ACME, f"what about {thing} paint colour", "Hm.", f"user {number}", {"corrected_intent": "colour"},
            turn_id=f"corrected {number}",
        )  # fmt: skip


@pytest.mark.parametrize("unlabelled_turns", [1000, 0])
async def test_a_cycle_learns_from_clear_turns_without_feedback(
    tmp_path: Path, unlabelled_turns: int
) -> None:
    overrides = SETTINGS | {"learning.unlabelled_turns": unlabelled_turns}
    async with create_autonomous_learner(tmp_path, overrides=overrides) as learner:
        await learner.bootstrap(ACME, gold())
        await talk(learner)
        await correct(learner)
        result = await learner.trigger_learning_cycle(ACME, mode="incremental", force_training=True)
        assert result.status in {"deployed", "rejected"}, result.error_message
        pseudo_labelled: set[str] = set()
        if result.status == "deployed":
            assert result.model_version is not None
            pseudo_labelled = {
                turn_id async for turn_id in learner.store.pseudo_labelled_turns(ACME, result.model_version)
            }

    clear = {f"clear {number}" for number in range(6)}
    assert (result.pseudo_labelled_turns > 0) == (unlabelled_turns > 0)
    assert result.pseudo_labelled_turns <= len(clear)
    assert pseudo_labelled <= clear
    assert result.status == "rejected" or len(pseudo_labelled) == result.pseudo_labelled_turns
