"""A chat product whose LLM fails at times: each message gets a reply, and each turn is stored.

    python examples/chat_orchestrator.py [HOME]

The LLM is a stand-in. Prepared answers by intent reply while it fails.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from karen_learner import create_autonomous_learner
from karen_learner.orchestrator import Orchestrator, Prompt

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
ANSWERS = {"broken": "Bring it in, we will have a look.", "price": "That is 49 euros.", "": "Tell me more."}
MESSAGES = ("how much is a new camera", "i dropped my phone in the sea", "what do you charge for a watch")


class UnreliableModel:
    """Fails at the first call, and at every second one after it."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, prompt: Prompt) -> str:
        self.calls += 1
        if self.calls % 2 == 1:
            raise ConnectionError("the provider does not answer")
        return f"({prompt.context.partition(': ')[2]}) Let me see."


async def main(home: Path) -> None:
    overrides = {"training.n_iter": 3, "training.min_updates": 60}
    async with create_autonomous_learner(home, overrides=overrides) as learner:
        await learner.bootstrap(TENANT, SEED)
        async with Orchestrator(learner, UnreliableModel(), answers=ANSWERS, deadline_s=5.0) as chat:
            for text in MESSAGES:
                reply = await chat.reply(TENANT, text, user_id="ann", conversation_id="c1")
                print(f"user: {text}\nbot:  {reply.text} [{reply.source}]")
                await chat.feedback(TENANT, reply.turn_id, {"satisfaction_score": 1.0})
            await chat.collection.drain()
        counts = (await learner.status(TENANT)).counts
        print(f"{counts.turns} turns stored, {counts.with_feedback} with feedback")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder)))
