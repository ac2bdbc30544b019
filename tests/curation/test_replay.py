"""Replay against the real store."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.curation.replay import sample_replay
from karen_learner.records import CurationWrite
from tests.curation.specimens import gold

TENANT = "acme"


@pytest.fixture
async def history(store: MemoryStore) -> MemoryStore:
    """60 learned texts of one label, 20 of another, 2 of a third; and some that are not for replay."""
    sizes = {"billing": 60, "refund": 20, "cancel": 2}
    learned = [gold(f"{name} {at}", intent=name) for name, size in sizes.items() for at in range(size)]
    examples = [example.model_copy(update={"state": "learned"}) for example in learned]
    examples.append(gold("pending", intent="billing"))
    examples.append(
        gold("held out", intent="billing").model_copy(update={"split": "holdout", "state": "learned"})
    )
    await store.save_curation(TENANT, CurationWrite(upserts=examples))
    return store


async def test_replay_is_balanced_over_labels(history: MemoryStore) -> None:
    sampled = await sample_replay(history, TENANT, limit=30, rng=random.Random(0))

    examples = [drawn.example for drawn in sampled]
    assert Counter(example.intent for example in examples) == {"billing": 14, "refund": 14, "cancel": 2}
    assert len({example.example_id for example in examples}) == 30
    assert {(example.state, example.split) for example in examples} == {("learned", "train")}


async def test_what_is_drawn_stands_for_all_that_was_learned(history: MemoryStore) -> None:
    sampled = await sample_replay(history, TENANT, limit=30, rng=random.Random(0))

    importance_weight: Counter[str | None] = Counter()
    for drawn in sampled:
        importance_weight[drawn.example.intent] += drawn.importance_weight
    assert importance_weight == pytest.approx({"billing": 60, "refund": 20, "cancel": 2})


async def test_with_room_for_all_everything_is_replayed(history: MemoryStore) -> None:
    assert len(await sample_replay(history, TENANT, limit=1000, rng=random.Random(0))) == 82


async def test_the_sample_is_that_of_its_generator(history: MemoryStore) -> None:
    one, same, other = [
        await sample_replay(history, TENANT, limit=9, rng=random.Random(seed)) for seed in (1, 1, 2)
    ]

    assert one == same != other


async def test_with_fewer_places_than_labels_chance_decides(history: MemoryStore) -> None:
    drawn = Counter()
    for seed in range(20):
        (one,) = await sample_replay(history, TENANT, limit=1, rng=random.Random(seed))
        drawn[one.example.intent] += 1

    assert set(drawn) == {"billing", "refund", "cancel"}


@pytest.mark.parametrize("limit", [0, 5])
async def test_nothing_learned_or_no_places(limit: int, store: MemoryStore) -> None:
    assert await sample_replay(store, TENANT, limit=limit, rng=random.Random(0)) == []
