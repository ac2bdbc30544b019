"""No text, near-duplicate or person is both in the training of a model and in the texts that it judges.

The tests read the files of all jobs of a real worker, over several cycles.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from karen_learner.corpora.parsing import CorpusLine
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.records import CycleMode, LearningCycleResult, Verdict
from karen_learner.settings import load_settings
from karen_learner.text_identity import group_key, text_key
from karen_learner.training import LocalWorker
from karen_learner.validation.evidence import Evidence
from tests.conftest import PHRASES, TINY, WORDS
from tests.cycle.learning_records import Learned, RecordingWorker
from tests.databases import execute, place_of

ACME = "acme"
OVERRIDES = TINY | {
    "training.n_iter": 1,
    "training.continuing_n_iter": 1,
    "training.validation_split": 0.2,
    "learning.replay_examples": 3,
}
OTHER_WORDS = ("jade", "ruby", "teal", "plum", "rust", "sand", "lime", "navy", "rose", "mint")


@dataclass
class ToldGate:
    """A gate that accepts or rejects as the test tells it."""

    accepts: bool = True

    async def judge(self, evidence: Evidence) -> Verdict:
        return Verdict(accepted=self.accepts, harmful=False, improved=(), checks=(), risk=evidence.risk)


@dataclass
class Site:
    """A learner with its recording worker."""

    learner: AutonomousLearner
    worker: RecordingWorker
    gate: ToldGate
    folder: Path
    results: list[LearningCycleResult] = field(default_factory=list)

    async def cycle(self, mode: CycleMode = "incremental", *, accepts: bool = True) -> LearningCycleResult:
        self.gate.accepts = accepts
        result = await self.learner.trigger_learning_cycle(ACME, mode=mode, force_training=True)
        assert result.status == ("deployed" if accepts else "rejected"), result.error_message
        assert result.mode == mode
        self.results.append(result)
        return result

    async def add_gold(self, texts: Iterable[tuple[str, str]]) -> None:
        path = self.folder / "gold.jsonl"
        rows = [json.dumps({"text": text, "intent": intent}) + "\n" for text, intent in texts]
        path.write_text("".join(rows), encoding="utf-8")
        assert (await self.learner.ingest(ACME, path)).skipped_count == 0

    async def say(self, text: str, intent: str, *users: str) -> None:
        """The same correction of each user."""
        for user in users:
            turn_id = f"{user}: {text}"
            await self.learner.collect_conversation_metadata(
                ACME, text, "ok", user, {"corrected_intent": intent}, turn_id=turn_id
            )

    @property
    def shadows(self) -> Path:
        return self.learner.layout.shadows(ACME, "any").parent


@asynccontextmanager
async def open_site(folder: Path) -> AsyncIterator[Site]:
    settings = load_settings(overrides=OVERRIDES, environment={})
    worker, gate = RecordingWorker(LocalWorker(settings.training)), ToldGate()
    async with create_autonomous_learner(
        folder / "home", overrides=OVERRIDES, backend=worker, gate=gate
    ) as learner:
        worker.store = learner.store
        yield Site(learner, worker, gate, folder)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A tenant with gold of three intents and one version."""
    async with open_site(tmp_path) as made:
        gold = [
            {"text": phrase.format(word), "intent": intent}
            for intent, phrase in PHRASES.items()
            for word in WORDS[:10]
        ]
        result = await made.learner.bootstrap(ACME, gold)
        assert result.status == "deployed", result.error_message
        yield made


def some_users(rng: random.Random) -> list[str]:
    """A person with few texts, two of them, or several people who say many texts."""
    count = rng.choice([1, 1, 1, 2, 3, 5])
    return [f"user {n}" for n in rng.sample(range(8, 60) if count <= 2 else range(8), count)]


def some_text(rng: random.Random) -> tuple[str, str]:
    """A gold text, its near-duplicate, or another text, with the right intent."""
    intent = rng.choice(sorted(PHRASES))
    text = PHRASES[intent].format(rng.choice(WORDS + OTHER_WORDS))
    return rng.choice(
        [text, f"{text}, please", f"please, {text}", f"{text} {rng.choice(OTHER_WORDS)}"]
    ), intent


async def talk(site: Site, rng: random.Random, count: int = 12) -> None:
    for _ in range(count):
        text, intent = some_text(rng)
        await site.say(text, intent, *some_users(rng))


async def test_no_cycle_leaks(site: Site) -> None:
    """Gold, near-duplicates of it, and corrections of several people, in full and incremental cycles."""
    rng = random.Random(7)
    plan: list[tuple[CycleMode, bool]] = [
        ("incremental", True), ("incremental", False), ("full", True), ("incremental", True),
        ("full", False), ("full", True),
    ]  # fmt: skip
    for number, (mode, accepts) in enumerate(plan):
        await talk(site, rng)
        await site.add_gold([some_text(rng) for _ in range(3)])
        if number % 3 == 2:  # people who withdraw their consent
            turns = [turn async for turn in site.learner.store.turns(ACME) if turn.user_text]
            for turn in rng.sample(turns, 3):
                await site.learner.add_feedback(ACME, turn.turn_id, {"consent": False})
        await site.cycle(mode, accepts=accepts)
        assert site.worker.leaks == []
    judged, trained = site.worker.judged, site.worker.trained
    kinds = [f"{side}, {kind}" for side in ("candidate", "champion") for kind in ("gold", "feedback")]
    assert all(judged[kind] > 20 for kind in kinds), judged
    assert trained["full, shadow"] > trained["full, served"] > 0
    assert trained["incremental, shadow"] > trained["incremental, served"] > 0


async def test_candidate_and_champion_answer_for_the_same_texts(site: Site) -> None:
    rng = random.Random(3)
    before = site.worker.judged.copy()
    for mode in ("incremental", "full"):
        await talk(site, rng)
        await site.cycle(mode)
    for kind in ("gold", "feedback"):
        counts = [
            site.worker.judged[f"{side}, {kind}"] - before[f"{side}, {kind}"]
            for side in ("candidate", "champion")
        ]
        assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("mode", ["incremental", "full"])
async def test_missing_shadows_are_trained_anew_without_leaks(site: Site, mode: CycleMode) -> None:
    rng = random.Random(5)
    await talk(site, rng, 20)
    champion = (await site.cycle()).model_version
    shutil.rmtree(site.shadows)
    await talk(site, rng, 20)
    await site.cycle(mode)
    assert (site.shadows / str(champion) / "0" / "meta.json").is_file()
    await talk(site, rng, 20)
    await site.cycle()
    assert site.worker.leaks == []


async def forget_masks(site: Site) -> None:
    """As in a home of a former release: there are neither shadows nor masks."""
    shutil.rmtree(site.shadows)
    await execute(place_of(site.learner), "DELETE FROM masks")


async def remove_shadows(site: Site) -> None:
    shutil.rmtree(site.shadows)


@pytest.mark.parametrize("lose", [forget_masks, remove_shadows])
async def test_a_rejection_after_missing_shadows_does_not_leak(
    site: Site, lose: Callable[[Site], Awaitable[None]]
) -> None:
    """The rejected cycle has trained the shadows of the champion anew. The next one finds them.

    Each person says a near-duplicate of gold and another text, so that two folds hold the person out.
    """
    rng = random.Random(11)
    for number, word in enumerate(WORDS):
        await site.say(f"my {word} horse", "travel", f"user {number}")
        await site.say(f"please, what is my balance {word}", "balance", f"user {number}")
    await site.cycle()
    await lose(site)
    await talk(site, rng)
    await site.cycle(accepts=False)
    assert site.worker.leaks == []
    for mode in ("incremental", "full"):
        await talk(site, rng)
        await site.cycle(mode, accepts=False)
        assert site.worker.leaks == []


async def test_a_rollback_does_not_leak(site: Site) -> None:
    """Gold arrives for the near-duplicates that the earlier version has learned as feedback."""
    rng = random.Random(13)
    texts = [(f"please, a {word} horse", "travel") for word in WORDS + OTHER_WORDS]
    for number, (text, intent) in enumerate(texts):
        await site.say(text, intent, f"user {number % 8}")
    earlier = (await site.cycle()).model_version
    await site.add_gold([(f"{word} horse", "travel") for word in WORDS + OTHER_WORDS])
    await site.cycle("full")
    assert site.worker.leaks == []
    await site.learner.rollback(ACME, earlier)
    await site.learner.release(ACME)
    await talk(site, rng)
    for mode in ("incremental", "full"):
        await site.cycle(mode)
        assert site.worker.leaks == []


async def test_raw_texts_are_removed_after_each_cycle(site: Site) -> None:
    rng = random.Random(17)
    await talk(site, rng)
    await site.cycle()
    shutil.rmtree(site.shadows)
    await talk(site, rng)
    await site.cycle(accepts=False)
    corpora = site.learner.layout.home / "corpus"
    assert any(corpora.rglob("train.spacy"))
    assert [*corpora.rglob("*.jsonl")] == []


def test_the_records_find_leaks() -> None:
    """The check itself: a model that has learned a near-duplicate, a text or a person is found."""
    worker: Any = RecordingWorker(LocalWorker())
    line = CorpusLine(text="my red horse", intent="travel")
    model = Learned(
        frozenset({text_key("My red horse!")}), frozenset({group_key("a red horse")}), frozenset({"ann"})
    )
    worker._check("candidate", line, ("ann", "bob"), model)
    assert len(worker.leaks) == 3
    worker._check("candidate", line, ("bob",), Learned())
    assert len(worker.leaks) == 3
