"""Balanced selection against water-filling over everything at once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.curation.balance import BalancedSelection, balanced, rank, water_fill
from karen_learner.records import Example
from tests.curation.specimens import gold, word


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


def test_the_order_decides_who_gets_what_does_not_come_out_even() -> None:
    assert water_fill({"a": 9, "b": 9, "c": 9}, 4, order=["c", "b", "a"]) == {"a": 1, "b": 1, "c": 2}


@given(st.dictionaries(st.text(max_size=2), st.integers(0, 50), max_size=8), st.integers(0, 120))
def test_water_fill_is_full_fair_and_possible(counts: dict[str, int], limit: int) -> None:
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
        word(text=text, intent=name).model_copy(update={"seq": seq, "example_id": text})
        for seq, (name, text) in enumerate(texts, start=1)
    ]


def picked(examples: list[Example], limit: int) -> list[Example]:
    selection = BalancedSelection(limit)
    for example in examples:
        selection.add(example)
    return selection.picks()


def test_rare_labels_are_taken_whole_and_the_newest_of_frequent_ones() -> None:
    examples = pool({"billing": 50, "refund": 3, "cancel": 40})
    picks = picked(examples, 23)

    by_label = {name: [e for e in picks if e.intent == name] for name in ("billing", "refund", "cancel")}
    assert {name: len(found) for name, found in by_label.items()} == {
        "billing": 10,
        "refund": 3,
        "cancel": 10,
    }
    newest = sorted((e for e in examples if e.intent == "billing"), key=lambda e: -(e.seq or 0))[:10]
    assert by_label["billing"] == newest


def test_gold_comes_first_then_the_better_then_the_newer() -> None:
    old_gold = gold("a", intent="billing").model_copy(update={"seq": 1})
    newer, older = (word(text=f"{at}").model_copy(update={"seq": at}) for at in (9, 2))
    worse = word(text="w", quality=0.7).model_copy(update={"seq": 99})

    assert sorted([worse, older, newer, old_gold], key=rank) == [old_gold, newer, older, worse]


@given(
    st.lists(st.sampled_from("aaaabbc"), max_size=300),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_pruning_on_the_way_does_not_change_the_picks(names: list[str], limit: int, seed: int) -> None:
    examples = pool({name: names.count(name) for name in set(names)}, seed=seed)
    selection = BalancedSelection(limit)
    for example in examples:
        selection.add(example)

    strata = {name: sorted((e for e in examples if e.intent == name), key=rank) for name in set(names)}
    shares = water_fill({name: len(found) for name, found in strata.items()}, limit)
    assert selection.picks() == [e for name in sorted(strata) for e in strata[name][: shares[name]]]


def test_memory_is_bounded() -> None:
    selection = BalancedSelection(10)
    for example in pool({"a": 500, "b": 300, "c": 2}):
        selection.add(example)
        assert sum(map(len, selection._strata.values())) <= 2 * (10 + 2 * 3)


async def test_a_stream_is_selected_from_as_a_list_is() -> None:
    examples = pool({"a": 30, "b": 4})

    async def stream() -> object:
        for example in examples:
            yield example

    assert await balanced(stream(), 12) == picked(examples, 12)  # type: ignore[arg-type]
