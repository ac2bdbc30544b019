"""Spooled turns and feedback are stored once, in order, over errors and crashes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from karen_learner.analysis.fallback import analyze_by_rules
from karen_learner.collection.turns import CharacterSanitizer, draft_turn
from karen_learner.errors import StoreLocked
from karen_learner.learner import AutonomousLearner
from karen_learner.models.home_archives import restore_home
from karen_learner.orchestrator.collection import SpooledCollection
from karen_learner.settings import load_settings

LIMITS = load_settings().analysis
CHILD = """
import asyncio, sys
from karen_learner import AutonomousLearner
from karen_learner.orchestrator import Orchestrator

async def llm(prompt):
    return "answer"

async def main():
    learner = AutonomousLearner(sys.argv[1])
    async with learner, Orchestrator(learner, llm, spool_wait_s=60.0) as orchestrator:
        for number in range(100_000):
            reply = await orchestrator.reply("acme", f"message {number}", user_id="u", turn_id=f"t{number}")
            assert reply.spooled
            await orchestrator.feedback("acme", reply.turn_id, {"satisfaction_score": 1.0})
            print(reply.turn_id, flush=True)

asyncio.run(main())
"""


class Analyzer:
    """A host's analyzer, which needs no model."""

    async def analyze(self, text, *, tenant_id=None):
        return analyze_by_rules(text)

    async def analyze_many(self, texts, *, tenant_id=None):
        return [analyze_by_rules(text) for text in texts]

    async def on_deployed(self, version, path): ...


class RefusingLearner:
    """Raises given errors before it stores."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.stored: list[str] = []

    async def collect_conversation_metadata(self, tenant_id, user_text, *_rest, turn_id, **_more):
        if self.errors:
            raise self.errors.pop(0)
        self.stored.append(turn_id)

    async def add_feedback(self, tenant_id, turn_id, feedback):
        self.stored.append(f"feedback on {turn_id}")


def draft(number: int, text: str = "hello"):
    return draft_turn(
        "acme", text, "hi", "ann", limits=LIMITS, sanitizer=CharacterSanitizer(), turn_id=f"t{number}"
    )


async def test_turns_and_feedback_are_stored_in_order(tmp_path):
    learner = RefusingLearner()
    async with SpooledCollection(learner, tmp_path) as collection:
        for number in range(3):
            assert await collection.put_turn(draft(number))
            assert await collection.put_feedback("acme", f"t{number}", {"satisfaction_score": 1.0})
        await collection.drain()
        assert collection.stored == 6
    for number in range(3):
        assert learner.stored.index(f"t{number}") < learner.stored.index(f"feedback on t{number}")


async def test_errors_of_the_store_are_retried(tmp_path, monkeypatch):
    monkeypatch.setattr("karen_learner.orchestrator.collection.RETRY_S", 0.001)
    learner = RefusingLearner(StoreLocked("a"), StoreLocked("b"))
    async with SpooledCollection(learner, tmp_path) as collection:
        await asyncio.gather(*(collection.put_turn(draft(number)) for number in range(4)))
        await collection.drain()
    assert sorted(learner.stored) == ["t0", "t1", "t2", "t3"]


async def test_a_refused_entry_holds_back_no_other_one(tmp_path, caplog):
    learner = RefusingLearner(ValueError("the words of a user"))
    async with SpooledCollection(learner, tmp_path) as collection:
        await collection.put_turn(draft(0))
        await collection.put_turn(draft(1))
        await collection.drain()
        assert (collection.stored, collection.refused) == (1, 1)
    assert "words of a user" not in caplog.text
    again = RefusingLearner()
    async with SpooledCollection(again, tmp_path) as collection:
        await collection.drain()
    assert again.stored == ["t0"]


async def test_an_entry_that_is_no_object_holds_back_no_other_one(tmp_path):
    learner = RefusingLearner()
    async with SpooledCollection(learner, tmp_path) as collection:
        await collection.spool.put(["not JSON", "7", "[1]"])
        await collection.put_turn(draft(0))
        await collection.drain()
        assert (collection.stored, collection.refused) == (1, 3)
    assert learner.stored == ["t0"]


async def test_entries_wait_for_the_next_process_if_the_store_fails(tmp_path):
    failing = RefusingLearner(*[StoreLocked("busy")] * 100)
    async with SpooledCollection(failing, tmp_path) as collection:
        await collection.put_turn(draft(0, "lone \ud800 surrogates \x00 and \n lines"))
    learner = RefusingLearner()
    async with SpooledCollection(learner, tmp_path) as collection:
        await collection.drain()
    assert learner.stored == ["t0"]


async def test_backups_and_erasures_include_the_turns_that_another_process_holds(tmp_path: Path):
    home, restored = tmp_path / "home", tmp_path / "restored"
    async with AutonomousLearner(home, spacy_analyzer=Analyzer()) as learner:
        await learner.collect_conversation_metadata("acme", "hello", "", "bob")
        other = SpooledCollection(RefusingLearner(*[StoreLocked("busy")] * 100), learner.layout.spool)
        await other.start()
        await other.put_turn(draft(0))
        await learner.backup(tmp_path / "home.tar.gz")
        assert (await learner.erase_user("acme", "ann", dry_run=True)).rows.spooled == 1
        assert (await learner.erase_user("acme", "ann")).rows.spooled == 1
        assert await other.waiting_text("acme", "t0") is None
        await other.close(0.0)
    restore_home(tmp_path / "home.tar.gz", restored)
    async with AutonomousLearner(restored, spacy_analyzer=Analyzer()) as learner:
        async with SpooledCollection(learner, learner.layout.spool) as collection:
            await collection.drain()
        assert await learner.store.get_turn("acme", "t0") is not None
    assert not list(tmp_path.glob("*.spool"))


class ErasingLearner(AutonomousLearner):
    """Erases the user of each turn just before it stores the turn, as another process may do."""

    failures = 0

    async def collect_conversation_metadata(self, tenant_id, *values, user_id, **more):
        await self.erase_user(tenant_id, user_id)
        self.failures = 1
        return await super().collect_conversation_metadata(tenant_id, *values, user_id=user_id, **more)

    async def erase_user(self, tenant_id, user_id, **options):
        if self.failures:
            self.failures -= 1
            raise StoreLocked("busy")
        return await super().erase_user(tenant_id, user_id, **options)


async def test_a_user_who_is_erased_while_a_turn_is_stored_stays_erased(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("karen_learner.orchestrator.collection.RETRY_S", 0.001)
    async with ErasingLearner(tmp_path, spacy_analyzer=Analyzer()) as learner:
        async with SpooledCollection(learner, learner.layout.spool) as collection:
            await collection.put_turn(draft(0))
            await collection.drain()
        turn = await learner.store.get_turn("acme", "t0")
        assert turn.user_text is None
        assert (await learner.store.personal_rows("acme", "ann")).total == 0
        assert learner.failures == 0


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
async def test_no_acknowledged_reply_is_lost_by_a_kill(tmp_path: Path):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    acknowledged = [child.stdout.readline().strip() for _ in range(100)]
    os.kill(child.pid, signal.SIGKILL)
    acknowledged += child.communicate()[0].splitlines()
    async with AutonomousLearner(tmp_path, spacy_analyzer=Analyzer()) as learner:
        async with SpooledCollection(learner, tmp_path / "spool") as collection:
            await collection.drain()
        for turn_id in acknowledged:
            turn = await learner.store.get_turn("acme", turn_id)
            assert turn is not None, turn_id
            assert turn.feedback.satisfaction_score == 1.0
        counts = await learner.store.counts("acme")
        assert len(acknowledged) <= counts.turns <= len(acknowledged) + 1
    assert not list((tmp_path / "spool").iterdir())


def test_a_spooled_entry_is_plain_json():
    text = json.dumps({"user_text": "\ud800"})
    assert text.isascii()
