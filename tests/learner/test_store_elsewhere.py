"""A learner with a store outside of its home: cycles, rollback, withdrawn consent, and another process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.records import ExampleState
from tests.conftest import ACME, TINY, gold_examples

LOOKING = """
import asyncio, json, sys
from karen_learner.learner import create_autonomous_learner

async def main(home, overrides):
    async with create_autonomous_learner(home, overrides=overrides) as learner:
        champion = await learner.store.champion("acme")
        analysis = await learner.analyze("acme", "good morning mauve friend")
        print(json.dumps([champion.version, analysis.model_version, analysis.intent]))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


async def texts(learner: AutonomousLearner) -> set[str]:
    """The stored texts of all turns and examples."""
    examples = [
        one.text
        for state in get_args(ExampleState)
        async for one in learner.store.examples(ACME, state=state)
    ]
    return {*examples, *[turn.user_text or "" async for turn in learner.store.turns(ACME)]}


async def test_a_home_with_backups_and_database_elsewhere(shared: Path | str, tmp_path: Path) -> None:
    home, overrides = tmp_path / "home", {**TINY, "store.url": str(shared)}
    async with create_autonomous_learner(home, overrides=overrides) as learner:
        first = await learner.bootstrap(ACME, gold_examples())
        assert first.status == "deployed", first.error_message
        texts_sent = [f"what is my balance on day {day}" for day in ("one", "two", "three", "four")]
        judged = {"corrected_intent": "balance", "satisfaction_score": 0.9}
        await asyncio.gather(
            *(
                learner.collect_conversation_metadata(ACME, text, "Well.", "ann", judged, turn_id=f"t{n}")
                for n, text in enumerate(texts_sent)
            )
        )
        second = await learner.trigger_learning_cycle(ACME, force_training=True)
        assert second.status in ("deployed", "rejected"), second.error_message
        assert set(texts_sent) <= await texts(learner)
        if second.status == "deployed":
            assert (await learner.rollback(ACME)).version == first.model_version
        for n in range(len(texts_sent)):
            await learner.add_feedback(ACME, f"t{n}", {"consent": False})
        assert not set(texts_sent) & await texts(learner)
    assert not (home / "karen.db").exists()
    looking = [sys.executable, "-c", LOOKING, str(home), json.dumps(overrides)]
    printed = await asyncio.to_thread(subprocess.run, looking, capture_output=True, text=True, check=True)
    assert json.loads(printed.stdout) == [first.model_version, first.model_version, "greeting"]
