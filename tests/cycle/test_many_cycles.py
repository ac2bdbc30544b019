"""Twenty batches of feedback; half of them add an intent, and take two cycles. No cycle fails, and accuracy
stays high."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import spacy

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.models.versions import verify
from karen_learner.records import ModelVersion

ACME = "acme"
TOPICS = {
    "tree": ("oak", "birch", "maple", "willow", "cedar", "poplar"),
    "fish": ("trout", "salmon", "herring", "carp", "mackerel", "sardine"),
    "metal": ("copper", "zinc", "nickel", "bronze", "titanium", "cobalt"),
    "dance": ("tango", "waltz", "polka", "samba", "ballet", "foxtrot"),
    "spice": ("pepper", "cumin", "saffron", "ginger", "turmeric", "paprika"),
    "cloth": ("velvet", "linen", "denim", "flannel", "corduroy", "satin"),
    "vehicle": ("tractor", "lorry", "yacht", "scooter", "bicycle", "minibus"),
    "planet": ("venus", "jupiter", "uranus", "mercury", "saturn", "neptune"),
    "sport": ("hockey", "judo", "rugby", "cricket", "fencing", "squash"),
    "tool": ("hammer", "wrench", "chisel", "screwdriver", "pliers", "hacksaw"),
    "month": ("january", "april", "october", "december", "february", "august"),
    "bird": ("falcon", "ostrich", "heron", "sparrow", "pelican", "cuckoo"),
}
FIRST = ("tree", "fish")
LATER = [topic for topic in TOPICS if topic not in FIRST]
OPENINGS = ("well", "so", "hey", "listen", "now", "look", "fine", "sure", "right", "yes", "maybe", "anyway",
            "also", "then", "really", "oh", "perhaps", "again", "still", "sorry")  # fmt: skip
"""First words of the texts of each cycle, so that no text is repeated."""
SETTINGS = {
    "learning.backup_retention_days": 0.0,
    "training.language": "xx",  # its tokenizer loads fast
    "training.validation_split": 0.34,  # three shadows
}


def gold(*topics: str) -> list[dict[str, str]]:
    return [
        {"text": f"please tell me about the {thing} {topic}", "intent": topic}
        for topic in topics
        for thing in TOPICS[topic]
    ]


async def declare(learner: AutonomousLearner, topic: str, folder: Path) -> None:
    """Gold examples of a new topic. Later corrections may use it as label."""
    path = folder / f"{topic}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in gold(topic)), encoding="utf-8")
    assert (await learner.ingest(ACME, path)).examples == len(TOPICS[topic])


async def correct(learner: AutonomousLearner, topic: str, opening: str) -> None:
    """Corrections for each thing of a topic."""
    for number, thing in enumerate(TOPICS[topic]):
        await learner.collect_conversation_metadata(
            ACME, f"{opening} i like the {thing} {topic}", "Aha.", f"user {number % 3}",
            {"satisfaction_score": 0.1, "corrected_intent": topic},
        )  # fmt: skip


async def accuracy(learner: AutonomousLearner, *topics: str) -> float:
    """Accuracy on texts with untrained words."""
    questions = [(topic, thing) for topic in topics for thing in TOPICS[topic]]
    answers = await learner.analyze_many(
        ACME, [f"explain one {thing} {topic} to me" for topic, thing in questions]
    )
    return sum(one.intent == topic for (topic, _), one in zip(questions, answers, strict=True)) / len(
        questions
    )


@pytest.fixture
async def learner(tmp_path: Path) -> AsyncIterator[AutonomousLearner]:
    async with create_autonomous_learner(tmp_path / "home", overrides=SETTINGS) as learner:
        first = await learner.bootstrap(ACME, gold(*FIRST))
        assert first.status == "deployed", first.error_message
        yield learner


async def champion_of(learner: AutonomousLearner) -> ModelVersion:
    found = (await learner.status(ACME)).champion
    assert found is not None
    return found


def kept_in(folder: Path, pattern: str) -> set[str]:
    return {path.name.removesuffix(".tar.gz") for path in folder.glob(pattern)}


async def check_champion(learner: AutonomousLearner, known: list[str]) -> None:
    """The champion is intact and can be loaded. Its labels keep their positions."""
    champion = await champion_of(learner)
    verify(champion.path, digest=champion.digest)
    assert list(spacy.load(champion.path).get_pipe("intent").labels) == known


async def check_retention(learner: AutonomousLearner) -> None:
    """Retention of zero days keeps only the champion, its parent, and their backups."""
    champion = await champion_of(learner)
    kept = {name for name in (champion.version, champion.parent) if name is not None}
    assert kept_in(learner.layout.models(ACME), "*") - {".staging", ".shadows"} == kept
    anchor = await learner.store.alias(ACME, "anchor/intent")
    assert anchor is not None
    assert kept_in(learner.layout.models(ACME), ".shadows/*") == kept | {anchor.version}
    assert kept_in(learner.layout.backups(ACME), "*") == kept


async def test_twenty_batches_with_a_new_intent_in_every_second(
    learner: AutonomousLearner, tmp_path: Path
) -> None:
    known = sorted(FIRST)
    for number, opening in enumerate(OPENINGS):
        await correct(learner, known[number % len(known)], opening)
        if number % 2 == 0:
            known.append(LATER[number // 2])
            await correct(learner, known[-1], opening)
            await declare(learner, known[-1], tmp_path)
        result = await learner.trigger_learning_cycle(ACME, force_training=True, mode="incremental")
        wanted = ("deployed",) if number % 2 == 0 else ("deployed", "rejected")
        assert result.status in wanted, result.error_message
        assert result.model_version == (await champion_of(learner)).version
        assert (await learner.status(ACME)).labels["intent"].keys() == set(known)
        assert await accuracy(learner, known[-1]) >= 0.8
        await check_champion(learner, known)
        await check_retention(learner)
    assert len(known) == len(TOPICS)
    assert await accuracy(learner, *FIRST) >= 0.9
    assert await accuracy(learner, *TOPICS) >= 0.9
    metrics = await learner.get_learning_metrics(ACME)
    assert (metrics.total_cycles, metrics.failed_cycles, metrics.skipped_cycles) == (31, 0, 0)
    assert len(await learner.versions(ACME)) == metrics.successful_cycles
