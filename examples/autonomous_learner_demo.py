"""All features in order: first model, turns, feedback, cycles, poisoned feedback, status, rollback.

    python examples/autonomous_learner_demo.py [HOME]

The texts are made up and few, so that the script takes seconds. Default HOME: a temporary folder.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from karen_learner import AutonomousLearner, LearningCycleResult, UserFeedback, create_autonomous_learner
from karen_learner.events import ModelDeployed, TrainingProgressed

TENANT = "flower-shop"
FLOWERS = ("roses", "tulips", "lilies", "daisies", "orchids", "violets", "poppies", "irises")
PHRASES = {
    "order": ("i would like to order {}", "send {} to my mother please", "can i buy {} here"),
    "delivery": ("where are my {}", "when will the {} arrive", "the {} have not come yet"),
    "care": ("how often do i water {}", "do {} need sun", "my {} look sad, what can i do"),
}
WORRIES = ("{} wilting, any advice", "brown leaves on the {}", "why have the {} lost their petals")
SEED = [
    {"text": phrase.format(flower), "intent": intent}
    for intent, phrases in PHRASES.items()
    for phrase in phrases
    for flower in FLOWERS
]
QUICK = {
    "training.n_iter": 4,
    "training.min_updates": 60,
    "learning.min_data_threshold": 12,
}


def show_title(title: str) -> None:
    print(f"\n== {title}")


def show_result(result: LearningCycleResult) -> None:
    print(f"{result.status}: {result.model_version} after {result.duration_s:.1f} s")
    if result.verdict is not None:
        print(f"reason: {result.verdict.summary}")


async def first_model(learner: AutonomousLearner) -> None:
    show_title("Without a model, no labels are detected")
    print((await learner.analyze(TENANT, "hello there")).model_dump(include={"intent", "degraded"}))
    show_title("A first model from labelled texts")
    show_result(await learner.bootstrap(TENANT, SEED))
    analysis = await learner.analyze(TENANT, "when do my tulips arrive")
    print(f"{analysis.intent} ({analysis.intent_confidence:.2f}) by {analysis.model_version}")


async def conversations(learner: AutonomousLearner) -> None:
    show_title("A turn: stored when the call returns")
    metadata = await learner.collect_conversation_metadata(
        tenant_id=TENANT,
        user_text="are orchids hard to keep alive",
        assistant_response="They like it humid.",
        user_id="ann",
        user_feedback={"satisfaction_score": 0.9, "response_quality": 0.8},
    )
    print(f"{metadata.intent_detected}, persona {metadata.persona_selected}, turn {metadata.turn_id}")
    show_title("Later feedback, and a turn without consent")
    later = await learner.add_feedback(TENANT, metadata.turn_id, UserFeedback(corrected_intent="care"))
    print(f"correction needed: {later.correction_needed}")
    await learner.collect_conversation_metadata(
        TENANT, "this stays between us", "Of course.", "bob", {"consent": False}
    )


async def learning(learner: AutonomousLearner) -> None:
    show_title("Corrections and a learning cycle")
    texts = [worry.format(flower) for flower in FLOWERS for worry in WORRIES]
    for number, text in enumerate(texts):
        await learner.collect_conversation_metadata(
            TENANT, text, "Hm.", f"user {number % 12}", {"corrected_intent": "care"}
        )
    plan = await learner.plan_learning_cycle(TENANT)
    print(f"plan: {'run' if plan.would_run else 'skip'}: {plan.why}")
    show_result(await learner.trigger_learning_cycle(TENANT, reason="requested by the shop"))
    print((await learner.analyze(TENANT, "tulips wilting, any advice")).intent)


async def poison(learner: AutonomousLearner) -> None:
    show_title("Wrong corrections: the gate rejects the candidate")
    wrong = {"order": "care", "delivery": "order", "care": "delivery"}
    for number, row in enumerate(SEED):
        await learner.collect_conversation_metadata(
            TENANT, f"{row['text']} {number}", "Hm.", f"attacker {number % 6}",
            {"corrected_intent": wrong[row["intent"]]},
        )  # fmt: skip
    show_result(await learner.trigger_learning_cycle(TENANT))


async def inspection(learner: AutonomousLearner, home: Path) -> None:
    show_title("Status, history, metrics, export")
    status = await learner.status(TENANT)
    print(f"{status.counts.turns} turns, {status.counts.corrections} corrections; {status.advice}")
    for cycle in await learner.history(TENANT):
        print(f"{cycle.started_at:%H:%M:%S} {cycle.mode:<11} {cycle.status:<9} {cycle.model_version}")
    metrics = await learner.get_learning_metrics()
    print(f"{metrics.total_cycles} cycles, {metrics.model_improvements} improvements")
    count = await learner.export(TENANT, home / "learned.jsonl")
    print(f"{count} curated examples in learned.jsonl")


async def undo(learner: AutonomousLearner) -> None:
    show_title("Rollback")
    versions = await learner.versions(TENANT)
    if len(versions) > 1:
        back = await learner.rollback(TENANT)
        print(f"live: {back.version}, {back.scores}")


async def main(home: Path) -> None:
    async with create_autonomous_learner(home, overrides=QUICK) as learner:
        learner.events.subscribe(lambda event: print(f"  [{type(event).__name__}]"), to=ModelDeployed)
        passes: list[object] = []
        learner.events.subscribe(passes.append, to=TrainingProgressed)
        await first_model(learner)
        await conversations(learner)
        await learning(learner)
        await poison(learner)
        await inspection(learner, home)
        await undo(learner)
        await learner.events.drain()
        print(f"\n{len(passes)} training passes. The home is {home.name}/")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder)))
