"""A cycle after the meaning of an intent has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from karen_learner.learner import AutonomousLearner
from tests.curation.specimens import turn

ACME = "acme"


async def use(learner: AutonomousLearner, detected: str, stated: str, *, count: int, first: int) -> None:
    """Turns with an intent that the model detects, and feedback of as many people."""
    for number in range(first, first + count):
        await learner.store.add_turn(
            turn(
                f"thing {chr(97 + number // 26)}{chr(97 + number % 26)}",
                feedback={"corrected_intent": stated},
                tenant_id=ACME,
                turn_id=f"turn {number}",
                user_id=f"user {number}",
                intent_detected=detected,
                intent_confidence=0.95,
            )
        )


@pytest.mark.parametrize("accepts", [True, False])
async def test_a_champion_without_the_former_meaning_gives_older_examples_the_present_one(
    make_learner: Callable[..., AutonomousLearner], accepts: bool
) -> None:
    gates: dict[str, Any] = {"gate__gates": ["budgets"], "gate__max_model_bytes": 0 if accepts else 1}
    async with make_learner(**gates) as learner:
        for at, intent in enumerate(("balance", "travel")):
            await use(learner, intent, intent, count=12, first=20 * at)
        await use(learner, "balance", "travel", count=6, first=40)
        result = await learner.trigger_learning_cycle(ACME, mode="incremental", force_training=True)
        assert (result.status, result.mode) == ("deployed" if accepts else "rejected", "full")
        [change] = result.changed_meanings
        assert change.startswith("6 people say 'travel' for texts of 'balance'")
        assert (result.training_examples, result.replay_examples) == (24 + 6, 45)
        states = ("learned", "pending")
        kept = [one for state in states async for one in learner.store.examples(ACME, state=state)]
        assert sum(one.intent == "balance" for one in kept) == (0 if accepts else 15 + 12)
