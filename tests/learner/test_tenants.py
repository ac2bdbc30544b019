"""Two tenants of one home are separate: turns, examples, models, metrics and rollbacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import DocBin

from karen_learner.errors import UnknownTurn, UnknownVersion
from karen_learner.events import Event
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.models.files import folder_digest
from tests.conftest import TINY, teach
from tests.homes import Homes, TrainedHome

ACME, GLOBEX = "acme", "globex/../acme"
PETS = ("cat", "dog", "hamster", "parrot", "turtle", "rabbit", "pony", "goldfish", "canary", "ferret")


def pet_examples() -> list[dict[str, Any]]:
    """Examples of the other tenant, with words that must not occur in the first one."""
    return [
        {"text": text.format(pet), "intent": intent}
        for intent, text in (("feed", "what does a {} eat"), ("adopt", "i want a {} at home"))
        for pet in PETS
    ]


async def teach_both(home: Path) -> None:
    await teach(home)
    async with create_autonomous_learner(home, overrides=TINY) as learner:
        result = await learner.bootstrap(GLOBEX, pet_examples())
        assert result.status == "deployed", result.error_message


@pytest.fixture
def taught_once(homes: Homes, store_kind: str) -> TrainedHome:
    return homes.trained("two-tenants", store_kind, teach_both)


@pytest.fixture
async def both(acme: AutonomousLearner) -> AutonomousLearner:
    """A learner of a home with two trained tenants, `acme` and another one."""
    return acme


def owned(learner: AutonomousLearner, tenant_id: str) -> dict[str, str]:
    """Digests of all files of a tenant."""
    where = learner.layout
    folders = (where.models(tenant_id), where.backups(tenant_id), where.corpora(tenant_id))
    return {str(folder): folder_digest(folder) for folder in folders}


async def correct(learner: AutonomousLearner, tenant_id: str, count: int, intent: str, text: str) -> None:
    for number in range(count):
        await learner.collect_conversation_metadata(
            tenant_id, text.format(number), "ok", f"user {number}", {"corrected_intent": intent},
            turn_id=f"t{number}",
        )  # fmt: skip


async def test_models_labels_and_versions_are_separate(both: AutonomousLearner) -> None:
    ours, theirs = await both.status(ACME), await both.status(GLOBEX)
    assert set(ours.labels["intent"]) == {"balance", "travel", "greeting"}
    assert set(theirs.labels["intent"]) == {"feed", "adopt"}
    assert ours.champion is not None
    assert theirs.champion is not None
    assert ours.champion.version != theirs.champion.version
    assert ours.champion.path.parent != theirs.champion.path.parent
    assert len(await both.versions(ACME)) == len(await both.versions(GLOBEX)) == 1
    answers = await asyncio.gather(
        both.analyze(ACME, "what does a cat eat"), both.analyze(GLOBEX, "what does a cat eat")
    )
    assert answers[0].intent in ours.labels["intent"]
    assert answers[1].intent == "feed"
    assert [answer.model_version for answer in answers] == [ours.champion.version, theirs.champion.version]


async def test_turns_are_separate_even_with_the_same_ids(both: AutonomousLearner) -> None:
    await both.collect_conversation_metadata(ACME, "ours", "ok", "u", turn_id="t1")
    with pytest.raises(UnknownTurn):
        await both.add_feedback(GLOBEX, "t1", {"satisfaction_score": 1.0})
    await both.collect_conversation_metadata(GLOBEX, "theirs", "ok", "u", turn_id="t1")
    await both.add_feedback(GLOBEX, "t1", {"satisfaction_score": 0.0})
    stored = await both.store.get_turn(ACME, "t1")
    assert stored is not None
    assert (stored.user_text, stored.feedback) == ("ours", None)
    assert [turn.user_text async for turn in both.store.turns(GLOBEX)] == ["theirs"]


async def test_metrics_and_history_are_those_of_the_tenant(both: AutonomousLearner) -> None:
    await both.trigger_learning_cycle(GLOBEX)
    ours, theirs = await both.get_learning_metrics(ACME), await both.get_learning_metrics(GLOBEX)
    everybody = await both.get_learning_metrics()
    assert (ours.total_cycles, theirs.total_cycles, everybody.total_cycles) == (1, 2, 3)
    assert {cycle.tenant_id for cycle in await both.history(GLOBEX)} == {GLOBEX}
    assert (everybody.tenants, everybody.last_cycle, everybody.recent_cycles) == (2, None, ())
    assert sorted(await both.tenants()) == sorted([ACME, GLOBEX])


async def test_a_cycle_learns_from_its_tenant_and_changes_no_other(both: AutonomousLearner) -> None:
    before, status = owned(both, ACME), await both.status(ACME)
    published: list[Event] = []
    both.events.subscribe(published.append)
    await correct(both, GLOBEX, 12, "feed", "snacks for pet number {}")
    await correct(both, ACME, 3, "balance", "money of mine, number {}")
    result = await both.trigger_learning_cycle(GLOBEX)
    assert result.training_examples == 12
    ids = [one async for one in both.store.lineage(GLOBEX, result.model_version or "")]
    assert [one async for one in both.store.lineage(ACME, result.model_version or "")] == []
    assert ids or result.status == "rejected"
    assert owned(both, ACME) == before
    after = await both.status(ACME)
    assert (after.champion, after.labels) == (status.champion, status.labels)
    assert after.counts.awaiting_curation == 3
    await both.events.drain()
    assert {event.tenant_id for event in published[15 * 2 :]} == {GLOBEX}
    folders = {path.name for path in (both.layout.home / "corpus").iterdir()}
    assert folders == {both.layout.corpora(ACME).name, both.layout.corpora(GLOBEX).name}


async def test_cycles_of_two_tenants_do_not_exclude_each_other(both: AutonomousLearner) -> None:
    results = await asyncio.gather(
        *(both.trigger_learning_cycle(one, mode="full", force_training=True) for one in (ACME, GLOBEX))
    )
    assert {result.status for result in results} <= {"deployed", "rejected"}


async def test_an_export_contains_texts_of_its_tenant_only(both: AutonomousLearner, tmp_path: Path) -> None:
    await correct(both, GLOBEX, 3, "feed", "secret snack number {}")
    await correct(both, ACME, 1, "walk", "please walk with number {}")
    for kind in ("examples", "turns"):
        await both.export(ACME, tmp_path / "ours.jsonl", kind=kind)  # type: ignore[arg-type]
        lines = [json.loads(line) for line in (tmp_path / "ours.jsonl").read_text().splitlines()]
        assert not any(pet in json.dumps(line) for line in lines for pet in (*PETS, "secret"))
    assert await both.export(GLOBEX, tmp_path / "theirs.jsonl", kind="turns") == 3
    assert await both.export(GLOBEX, tmp_path / "theirs.jsonl") == 20


async def test_the_corpora_of_a_tenant_contain_its_texts_only(both: AutonomousLearner) -> None:
    def words(tenant_id: str) -> set[str]:
        vocab, paths = spacy.blank("en").vocab, both.layout.corpora(tenant_id).rglob("*.spacy")
        docs = [doc for path in paths for doc in DocBin().from_disk(path).get_docs(vocab)]
        return {token.text for doc in docs for token in doc}

    assert words(GLOBEX) >= {"cat", "eat", "home"}
    assert words(ACME) >= {"balance", "red"}
    assert not words(ACME) & {*PETS, "eat", "home"}


async def test_a_rollback_changes_its_tenant_only(both: AutonomousLearner) -> None:
    ours, theirs = await both.status(ACME), await both.status(GLOBEX)
    assert ours.champion is not None
    assert theirs.champion is not None
    with pytest.raises(UnknownVersion):
        await both.rollback(ACME, theirs.champion.version)
    assert theirs.champion.backup_path is not None
    stolen = both.layout.backups(ACME) / theirs.champion.backup_path.name
    stolen.write_bytes(theirs.champion.backup_path.read_bytes())
    await both.bootstrap(GLOBEX, [{"text": f"walk the {pet}", "intent": "walk"} for pet in PETS])
    assert (await both.training_pipeline.rollback_model(stolen)).tenant_id == GLOBEX
    assert (await both.status(ACME)).champion == ours.champion
    assert (await both.status(GLOBEX)).champion == theirs.champion


async def test_a_damaged_model_of_one_tenant_affects_no_other(
    both: AutonomousLearner, make_learner: Callable[..., AutonomousLearner]
) -> None:
    theirs = (await both.status(GLOBEX)).champion
    assert theirs is not None
    assert theirs.backup_path is not None
    theirs.backup_path.unlink()
    (theirs.path / "config.cfg").unlink()
    async with make_learner() as learner:
        answers = await asyncio.gather(learner.analyze(GLOBEX, "hello"), learner.analyze(ACME, "hello"))
    assert [answer.degraded for answer in answers] == [True, False]
