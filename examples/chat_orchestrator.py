"""A chat orchestrator that analyses each message and stores each turn.

    python examples/chat_orchestrator.py [HOME]

The answers are fixed texts. A reply waits for the analysis alone; a background task stores the turn.
"""

import asyncio
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from karen_learner import AutonomousLearner, ConversationMetadata, create_autonomous_learner

TENANT = "helpdesk"
SEED = [
    {"text": f"{phrase} {thing}", "intent": intent}
    for intent, phrases in {
        "broken": ("repair my", "there is a crack in my", "i dropped my"),
        "price": ("how much is a", "price of the", "what do you charge for a"),
    }.items()
    for phrase in phrases
    for thing in ("phone", "tablet", "laptop", "watch", "camera")
]
ANSWERS = {"broken": "Bring it in, we will have a look.", "price": "That is 49 euros.", None: "Tell me more."}


@dataclass
class Orchestrator:
    """One instance serves all conversations."""

    learner: AutonomousLearner
    collecting: set[asyncio.Task[ConversationMetadata]] = field(default_factory=set)

    async def reply(self, user_id: str, conversation_id: str, turn_id: str, text: str) -> str:
        """The answer to a message. A background task stores the turn."""
        analysis = await self.learner.analyze(TENANT, text)
        answer = ANSWERS.get(analysis.intent, ANSWERS[None])
        task = asyncio.create_task(
            self.learner.collect_conversation_metadata(
                tenant_id=TENANT,
                user_text=text,
                assistant_response=answer,
                user_id=user_id,
                conversation_id=conversation_id,
                turn_id=turn_id,
            )
        )
        self.collecting.add(task)
        task.add_done_callback(self.collecting.discard)
        return answer

    async def thumbs(self, turn_id: str, *, up: bool) -> None:
        """Store the rating of an answer."""
        await asyncio.gather(*self.collecting)
        await self.learner.add_feedback(TENANT, turn_id, {"satisfaction_score": 1.0 if up else 0.0})


async def main(home: Path) -> None:
    overrides = {"training.n_iter": 3, "training.min_updates": 60}
    async with create_autonomous_learner(home, overrides=overrides) as learner:
        await learner.bootstrap(TENANT, SEED)
        orchestrator = Orchestrator(learner)
        for number, text in enumerate(("how much is a new camera", "i dropped my phone in the sea")):
            print(f"user: {text}")
            print(f"bot:  {await orchestrator.reply('ann', 'c1', f't{number}', text)}")
            await orchestrator.thumbs(f"t{number}", up=True)
        counts = (await learner.status(TENANT)).counts
        print(f"{counts.turns} turns stored, {counts.with_feedback} with feedback")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder)))
