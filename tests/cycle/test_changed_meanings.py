"""A cycle after the meaning of an intent has changed."""

from __future__ import annotations

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


async def test_former_meanings_are_forgotten_by_a_full_training(acme: AutonomousLearner) -> None:
    for at, intent in enumerate(("balance", "travel")):
        await use(acme, intent, intent, count=12, first=20 * at)
    await use(acme, "balance", "travel", count=6, first=40)
    result = await acme.trigger_learning_cycle(ACME, mode="incremental", force_training=True)
    assert result.mode == "full"
    [change] = result.changed_meanings
    assert change.startswith("6 people say 'travel' for texts of 'balance'")
    aside = [one async for one in acme.store.examples(ACME, state="quarantined")]
    assert ({one.intent for one in aside}, len(aside)) == ({"balance"}, 15 + 12)
    again = await acme.trigger_learning_cycle(ACME, mode="incremental", force_training=True)
    if result.verdict is not None and result.verdict.accepted:
        assert again.changed_meanings == ()
    else:
        assert (again.mode, again.changed_meanings) == ("full", (change,))
