"""Imports and exports of a learner: what `export` writes, `ingest` reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from karen_learner.errors import InvalidInput
from karen_learner.learner import AutonomousLearner
from karen_learner.records import Turn

ACME = "acme"
MakeLearner = Callable[..., AutonomousLearner]
TURN = {"user_text": "hello there", "assistant_response": "hi", "user_id": "ann"}
TURNS: list[dict[str, Any]] = [
    TURN,
    TURN,
    {**TURN, "user_id": "bob", "user_feedback": {"corrected_intent": "greeting", "comment": "no"}},
    {**TURN, "turn_id": "t-1", "conversation_id": "c-1", "occurred_at": "2026-05-06T07:08:09+02:00"},
    {**TURN, "user_text": "secret", "user_feedback": {"satisfaction_score": 0.25, "consent": False}},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


async def turns_of(learner: AutonomousLearner, tenant_id: str = ACME) -> dict[str, Turn]:
    return {turn.turn_id: turn async for turn in learner.store.turns(tenant_id)}


async def test_the_same_file_twice_is_the_same_turns(acme: AutonomousLearner, tmp_path: Path) -> None:
    path = write(tmp_path / "turns.jsonl", TURNS)
    await acme.ingest(ACME, path)
    once = await turns_of(acme)
    assert len(once) == len(TURNS)
    write(path, [*TURNS[:1], {**TURN, "user_feedback": {"satisfaction_score": 1.0}}, *TURNS[2:], TURN])
    await acme.ingest(ACME, path)
    twice = await turns_of(acme)
    assert len(twice) == len(TURNS) + 1, "the appended turn is new"
    assert set(once) < set(twice)
    assert sum(turn.feedback is not None for turn in twice.values()) == 3, "later feedback is merged"


async def test_ids_of_lines_contain_no_text(acme: AutonomousLearner, tmp_path: Path) -> None:
    await acme.ingest(ACME, write(tmp_path / "turns.jsonl", TURNS))
    given = [name for name in await turns_of(acme) if name != "t-1"]
    assert all(re.fullmatch(r"line-0000000[1-5]-[0-9a-f]{24}", name) for name in given)
    first, second = given[:2]
    assert first.rpartition("-")[2] == second.rpartition("-")[2], "both have the same content"


async def test_the_turns_of_one_user_are_exported(acme: AutonomousLearner, tmp_path: Path) -> None:
    await acme.ingest(ACME, write(tmp_path / "turns.jsonl", TURNS))
    target = tmp_path / "bob.jsonl"
    assert await acme.export(ACME, target, kind="turns", user_id="bob") == 1
    assert json.loads(target.read_text(encoding="utf-8"))["metadata"]["user_id"] == "bob"
    with pytest.raises(InvalidInput, match="the user 'nobody' of 'acme' has no turns"):
        await acme.export(ACME, target, kind="turns", user_id="nobody")
    with pytest.raises(InvalidInput, match="belong to no user"):
        await acme.export(ACME, target, user_id="bob")


async def test_exported_turns_are_read(
    acme: AutonomousLearner, make_learner: MakeLearner, tmp_path: Path
) -> None:
    await acme.ingest(ACME, write(tmp_path / "turns.jsonl", TURNS))
    before = await turns_of(acme)
    assert await acme.export(ACME, tmp_path / "exported.jsonl", kind="turns") == len(before)
    async with make_learner(tmp_path / "another") as learner:
        report = await learner.ingest("globex", tmp_path / "exported.jsonl")
        after = await turns_of(learner, "globex")
        copied = await learner.ingest("another", tmp_path / "exported.jsonl")
        copies = await turns_of(learner, "another")
    assert (report.turns, report.skipped_count) == (4, 1)
    assert "its user refused or withdrew consent" in report.skipped[0].reason
    assert copied.turns == 4
    assert set(copies) == set(after)
    assert {turn.tenant_id for turn in copies.values()} == {"another"}
    assert {name for name, turn in before.items() if turn.user_text is not None} == set(after)
    for name, turn in after.items():
        old = before[name]
        assert (turn.user_text, turn.assistant_response, turn.feedback) == (
            old.user_text,
            old.assistant_response,
            old.feedback,
        )
        assert turn.metadata.user_id == old.metadata.user_id
        assert turn.metadata.conversation_id == old.metadata.conversation_id
        assert turn.metadata.occurred_at == old.metadata.occurred_at


async def test_gold_that_contradicts_stored_gold_is_told_alike(
    acme: AutonomousLearner, tmp_path: Path
) -> None:
    text = "what is my balance red"
    path = write(tmp_path / "gold.jsonl", [{"text": text, "intent": "travel"}])
    report = await acme.ingest(ACME, path)
    assert (report.examples, report.contradictions) == (0, 1)
    assert report.to_dict()["skipped"] == [
        {"line": 1, "reason": "intent 'travel' contradicts 'balance' of stored gold"}
    ]
    replaced = await acme.ingest(ACME, path, replace=True)
    assert (replaced.examples, replaced.contradictions) == (1, 0)
