"""Splits of new examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.curation.splits import SplitRules, assign_splits, spread_shares
from karen_learner.records import Example, Split
from tests.curation.specimens import annotation, gold

NONE_STORED: dict[Split, dict[str, int]] = {"train": {}, "dev": {}, "holdout": {}}
USUAL: dict[Split, float] = {"holdout": 0.2, "dev": 0.1}
CAPACITY: dict[Split, int] = {"holdout": 3000, "dev": 1000}
RULES = SplitRules(usual=USUAL, capacity=CAPACITY, seed=0)


def golds(sizes: Mapping[str, int]) -> list[Example]:
    return [
        gold(f"{name} word{chr(97 + at % 26)}{chr(97 + at // 26)}", intent=name)
        for name, n in sizes.items()
        for at in range(n)
    ]


def split(
    examples: Sequence[Example], *, existing: Any = None, stored: Any = None, **rules: Any
) -> list[Example]:
    return assign_splits(
        examples, existing=existing or {}, stored=stored or NONE_STORED, rules=replace(RULES, **rules)
    )


def sizes(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for example in examples:
        found.setdefault(example.stratum, Counter())[example.split] += 1
    return {name: dict(counts) for name, counts in found.items()}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"train": 1}),
        (3, {"train": 3}),
        (4, {"train": 3, "holdout": 1}),
        (8, {"train": 5, "holdout": 2, "dev": 1}),
        (100, {"train": 72, "holdout": 20, "dev": 8}),
    ],
)
def test_gold_is_split_by_stratum(count: int, expected: dict[str, int]) -> None:
    assert sizes(split(golds({"billing": count}))) == {"billing": expected}


def test_splits_do_not_depend_on_the_order_of_the_texts() -> None:
    examples = golds({"billing": 30, "refund": 12})
    one = {example.key: example.split for example in split(examples)}

    assert {example.key: example.split for example in split(examples[::-1])} == one
    assert {example.key: example.split for example in split(examples, seed=1)} != one


def test_near_duplicates_share_a_split() -> None:
    examples = [
        gold(text, intent="billing")
        for at in range(40)
        for text in (
            f"bill {chr(97 + at % 26)}{at // 26 * 'z'}x",
            f"my bill {chr(97 + at % 26)}{at // 26 * 'z'}x!",
        )
    ]
    by_group: dict[str, set[str]] = {}
    for example in split(examples):
        by_group.setdefault(example.group, set()).add(example.split)
    assert len(by_group) == 40
    assert all(len(splits) == 1 for splits in by_group.values())


def test_a_group_keeps_its_split() -> None:
    (example,) = golds({"billing": 1})

    for where in ("train", "dev", "holdout"):
        assert split([example], existing={example.group: where})[0].split == where


def feedback(count: int, *, users: int) -> list[Example]:
    texts = (f"bill {chr(97 + at % 26)}{chr(97 + at // 26)}" for at in range(count))
    return [annotation(text=text, intent="billing").model_copy(update={"users": users}) for text in texts]


def test_feedback_of_one_user_is_never_held_out() -> None:
    assert sizes(split(feedback(100, users=1))) == {"billing": {"train": 90, "dev": 10}}


def test_feedback_of_several_users_is_held_out_with_the_same_share() -> None:
    assert sizes(split(feedback(100, users=2)))["billing"]["holdout"] == 20


@pytest.mark.parametrize("changes", [{"learned_in": "v1"}, {"state": "conflict"}, {"state": "quarantined"}])
def test_learned_or_unusable_feedback_is_not_held_out(changes: dict[str, Any]) -> None:
    examples = [example.model_copy(update=changes) for example in feedback(50, users=3)]

    assert "holdout" not in sizes(split(examples))["billing"]


def test_a_group_with_feedback_of_one_user_is_not_held_out() -> None:
    pair = [gold("bill x", intent="billing"), annotation(text="my bill x", intent="billing")]
    rest = golds({"billing": 3})

    placed = {example.key: example.split for example in split([*rest, *pair], usual=USUAL | {"holdout": 0.5})}
    assert placed[pair[0].key] == placed[pair[1].key] != "holdout"


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 60)), st.integers(0, 40), st.integers(0, 20))
def test_the_limits_hold(counts: dict[str, int], holdout_capacity: int, dev_capacity: int) -> None:
    placed = split(golds(counts), capacity={"holdout": holdout_capacity, "dev": dev_capacity})
    total = Counter(example.split for example in placed)

    assert total["holdout"] <= holdout_capacity
    assert total["dev"] <= dev_capacity
    for found in sizes(placed).values():
        assert found.get("train", 0) >= min(2, sum(found.values()))


def test_strata_share_a_small_capacity() -> None:
    placed = split(golds({"a": 100, "b": 50, "c": 10}), capacity=CAPACITY | {"holdout": 6})

    assert {name: found["holdout"] for name, found in sizes(placed).items()} == {"a": 2, "b": 2, "c": 2}


def test_shares_are_equal_page_by_page() -> None:
    examples = golds({"a": 200, "b": 60, "c": 20})
    ordered = sorted(examples, key=lambda example: example.draw)
    stored: dict[Split, Counter[str]] = {"train": Counter(), "dev": Counter(), "holdout": Counter()}
    for start in range(0, len(ordered), 7):
        for example in split(ordered[start : start + 7], stored=stored):
            stored[example.split][example.stratum] += 1

    assert dict(stored["holdout"]) == {"a": 40, "b": 12, "c": 4}
    assert stored["dev"]["a"] == pytest.approx(16, abs=4)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_share_follows_the_settings(share: float) -> None:
    found = sizes(split(golds({"billing": 100}), usual={"holdout": share, "dev": 0.0}))["billing"]

    assert found.get("holdout", 0) == share * 100


def test_a_capped_holdout_is_spread_over_all_strata_beforehand() -> None:
    counts = {"a": 1000, "b": 1000, "c": 20}

    assert spread_shares(counts, RULES) == {}
    shares = spread_shares(counts, replace(RULES, capacity={"holdout": 104, "dev": 22}))
    holdout, dev = {"a": 0.05, "b": 0.05, "c": 0.2}, {"a": 0.0125, "b": 0.0125, "c": 0.1}
    assert shares == {
        **{("holdout", stratum): share for stratum, share in holdout.items()},
        **{("dev", stratum): share for stratum, share in dev.items()},
    }


def test_the_shares_of_a_batch_replace_those_of_the_settings() -> None:
    shares = {("holdout", "a"): 0.05, ("dev", "a"): 0.02}

    assert sizes(split(golds({"a": 600}), shares=shares)) == {"a": {"holdout": 30, "dev": 11, "train": 559}}
