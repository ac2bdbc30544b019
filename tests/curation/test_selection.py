"""Balanced selection, and replay from the real store."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.contracts import MemoryStore
from karen_learner.curation.selection import (
    balanced,
    best_of_strata,
    draw_learned_gold,
    draw_replay_pool,
    rank,
    water_fill,
)
from karen_learner.records import CurationWrite, Example
from tests.curation.specimens import annotation, gold

TENANT = "acme"


@pytest.mark.parametrize(
    ("counts", "limit", "expected"),
    [
        ({}, 5, {}),
        ({"a": 3, "b": 2}, 9, {"a": 3, "b": 2}),
        ({"a": 100, "b": 2, "c": 100}, 20, {"a": 9, "b": 2, "c": 9}),
        ({"a": 10, "b": 10, "c": 10}, 11, {"a": 4, "b": 4, "c": 3}),
        ({"a": 5, "b": 0, "c": 5}, 1, {"a": 1, "b": 0, "c": 0}),
        ({"a": 5, "b": 5}, 0, {"a": 0, "b": 0}),
    ],
)
def test_water_fill(counts: dict[str, int], limit: int, expected: dict[str, int]) -> None:
    assert water_fill(counts, limit) == expected


def test_the_first_strata_in_order_get_the_remaining_places() -> None:
    assert water_fill({"a": 9, "b": 9, "c": 9}, 4, order=["c", "b", "a"]) == {"a": 1, "b": 1, "c": 2}


@given(st.dictionaries(st.text(max_size=2), st.integers(0, 50), max_size=8), st.integers(0, 120))
def test_water_fill_is_complete_even_and_within_the_counts(counts: dict[str, int], limit: int) -> None:
    shares = water_fill(counts, limit)

    assert sum(shares.values()) == min(limit, sum(counts.values()))
    assert all(shares[name] <= counts[name] for name in counts)
    cut = [shares[name] for name in counts if shares[name] < counts[name]]
    assert not cut or max(shares.values()) - min(cut) <= 1


def pool(sizes: dict[str, int], *, seed: int = 0) -> list[Example]:
    """Feedback of several labels, each with its own `seq`, in random order."""
    texts = [(name, f"{name} {at}") for name, size in sizes.items() for at in range(size)]
    random.Random(seed).shuffle(texts)
    return [
        annotation(text=text, intent=name).model_copy(update={"seq": seq, "example_id": text})
        for seq, (name, text) in enumerate(texts, start=1)
    ]


def test_all_of_a_rare_label_and_the_newest_of_frequent_labels_are_selected() -> None:
    examples = pool({"billing": 50, "refund": 3, "cancel": 40})
    picks = best_of_strata(examples, 23)

    by_label = {name: [e for e in picks if e.intent == name] for name in ("billing", "refund", "cancel")}
    assert {name: len(found) for name, found in by_label.items()} == {
        "billing": 10,
        "refund": 3,
        "cancel": 10,
    }
    newest = sorted((e for e in examples if e.intent == "billing"), key=lambda e: -(e.seq or 0))[:10]
    assert by_label["billing"] == newest


def test_rank_is_by_gold_then_quality_then_age() -> None:
    old_gold = gold("a", intent="billing").model_copy(update={"seq": 1})
    newer, older = (
        annotation(text=f"{at}").model_copy(update={"seq": at, "created_at": datetime.fromtimestamp(at, UTC)})
        for at in (9, 2)
    )
    worse = annotation(text="w", quality=0.7).model_copy(update={"seq": 99})

    assert sorted([worse, older, newer, old_gold], key=rank) == [old_gold, newer, older, worse]


@given(
    st.lists(st.sampled_from("aaaabbc"), max_size=300),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_pruning_does_not_change_the_picks(names: list[str], limit: int, seed: int) -> None:
    examples = pool({name: names.count(name) for name in set(names)}, seed=seed)
    held: list[Example] = []
    for start in range(0, len(examples), 9):
        held = best_of_strata([*held, *examples[start : start + 9]], limit, spare=1)
        assert len(held) <= limit + 3, "at most one spare example of each label"

    strata = {name: sorted((e for e in examples if e.intent == name), key=rank) for name in set(names)}
    shares = water_fill({name: len(found) for name, found in strata.items()}, limit)
    expected = [e for name in sorted(strata) for e in strata[name][: shares[name]]]
    assert best_of_strata(held, limit) == best_of_strata(examples, limit) == expected


async def test_a_stream_gives_the_same_picks_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("karen_learner.curation.selection.MIN_PAGE", 5)
    examples = pool({"a": 300, "b": 4})

    async def stream() -> AsyncIterator[Example]:
        for example in examples:
            yield example

    assert await balanced(stream(), 12) == best_of_strata(examples, 12)


# Replay ---------------------------------------------------------------------------------------


@pytest.fixture
async def history(store: MemoryStore) -> MemoryStore:
    """60 learned texts of one label, 20 of another, 2 of a third; and a text that replay must not draw."""
    sizes = {"billing": 60, "refund": 20, "cancel": 2}
    learned = [gold(f"{name} {at}", intent=name) for name, size in sizes.items() for at in range(size)]
    examples = [example.model_copy(update={"state": "learned"}) for example in learned]
    examples.append(gold("pending", intent="billing"))
    await store.save_curation(TENANT, CurationWrite(upserts=examples))
    return store


async def test_replay_is_balanced_over_labels(history: MemoryStore) -> None:
    sampled = await draw_replay_pool(history, TENANT, limit=30, rng=random.Random(0))

    examples = [example for example, _ in sampled]
    assert Counter(example.intent for example in examples) == {"billing": 14, "refund": 14, "cancel": 2}
    assert len({example.example_id for example in examples}) == 30
    assert {example.state for example in examples} == {"learned"}


async def test_importance_weights_sum_to_the_number_of_learned_examples(history: MemoryStore) -> None:
    sampled = await draw_replay_pool(history, TENANT, limit=30, rng=random.Random(0))

    weights: Counter[str | None] = Counter()
    for example, weight in sampled:
        weights[example.intent] += weight
    assert weights == pytest.approx({"billing": 60, "refund": 20, "cancel": 2})


async def test_a_large_limit_draws_all_learned_examples(history: MemoryStore) -> None:
    assert len(await draw_replay_pool(history, TENANT, limit=1000, rng=random.Random(0))) == 82


async def test_the_random_generator_determines_the_sample(history: MemoryStore) -> None:
    one, same, other = [
        await draw_replay_pool(history, TENANT, limit=9, rng=random.Random(seed)) for seed in (1, 1, 2)
    ]

    assert one == same != other


async def test_with_fewer_places_than_labels_the_labels_are_drawn_at_random(history: MemoryStore) -> None:
    drawn = Counter()
    for seed in range(20):
        ((one, _),) = await draw_replay_pool(history, TENANT, limit=1, rng=random.Random(seed))
        drawn[one.intent] += 1

    assert set(drawn) == {"billing", "refund", "cancel"}


@pytest.mark.parametrize("limit", [0, 5])
async def test_without_learned_examples_or_places_nothing_is_drawn(limit: int, store: MemoryStore) -> None:
    assert await draw_replay_pool(store, TENANT, limit=limit, rng=random.Random(0)) == []


# Gold that judges -----------------------------------------------------------------------------


async def test_the_gold_that_judges_is_balanced_and_the_same_at_each_call(history: MemoryStore) -> None:
    feedback = [annotation(f"user {at}", f"refund me {at}", intent="refund") for at in range(50)]
    learned = [example.model_copy(update={"state": "learned"}) for example in feedback]
    await history.save_curation(TENANT, CurationWrite(upserts=learned))

    first, again = [await draw_learned_gold(history, TENANT, limit=30) for _ in range(2)]
    assert first == again
    assert Counter(example.intent for example in first) == {"billing": 14, "refund": 14, "cancel": 2}
    assert all(example.is_gold and example.state == "learned" for example in first)
    assert len({example.example_id for example in first}) == 30


async def test_all_gold_judges_below_the_limit(history: MemoryStore) -> None:
    assert len(await draw_learned_gold(history, TENANT, limit=500)) == 82
    assert await draw_learned_gold(history, "nobody", limit=500) == []
