from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.records import LabelledText
from karen_learner.simulation import Scenario
from karen_learner.simulation.scenario import cut_evenly, cut_every, draw_shots, plan_stream

TRAIN = [LabelledText(text=f"text {number}", intent="abc"[number % 3]) for number in range(30)]


def test_draw_shots_takes_equal_numbers_per_label() -> None:
    gold, rest = draw_shots(TRAIN, 4, random.Random(1))
    assert Counter(example.intent for example in gold) == {"a": 4, "b": 4, "c": 4}
    assert sorted(example.text for example in gold + rest) == sorted(example.text for example in TRAIN)


def test_draw_shots_takes_all_texts_of_a_rare_label() -> None:
    gold, rest = draw_shots(TRAIN, 99, random.Random(1))
    assert len(gold) == 30
    assert rest == []


def test_draw_shots_uses_sentiments_without_intents() -> None:
    train = [LabelledText(text=str(number), sentiment="np"[number % 2]) for number in range(10)]
    gold, _ = draw_shots(train, 2, random.Random(0))
    assert Counter(example.sentiment for example in gold) == {"n": 2, "p": 2}


def test_the_seed_determines_the_plan() -> None:
    scenario = Scenario(shots=3, cycles=4, seed=7)
    assert plan_stream(TRAIN, scenario) == plan_stream(TRAIN, scenario)
    assert plan_stream(TRAIN, scenario) != plan_stream(TRAIN, scenario.model_copy(update={"seed": 8}))


def test_the_plan_follows_cycles_every_and_limit() -> None:
    assert [len(cycle) for cycle in plan_stream(TRAIN, Scenario(shots=3, cycles=4)).cycles] == [5, 5, 5, 6]
    assert [len(cycle) for cycle in plan_stream(TRAIN, Scenario(shots=3, every=8)).cycles] == [8, 8, 5]
    assert [len(cycle) for cycle in plan_stream(TRAIN, Scenario(shots=3, every=8, limit=9)).cycles] == [8, 1]
    assert len(plan_stream(TRAIN, Scenario(shots=3)).cycles) == 10
    assert plan_stream(TRAIN, Scenario(shots=99)).cycles == ()


def test_cycles_and_every_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        Scenario(cycles=3, every=10)


@given(st.lists(st.integers(), max_size=60), st.integers(1, 70))
def test_cut_evenly_keeps_all_items_in_order(items: list[int], pieces: int) -> None:
    cut = cut_evenly(items, pieces)
    assert [item for piece in cut for item in piece] == items
    assert len(cut) == min(pieces, len(items))
    sizes = [len(piece) for piece in cut]
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(), max_size=60), st.integers(1, 70))
def test_cut_every_keeps_all_items_in_order(items: list[int], size: int) -> None:
    cut = cut_every(items, size)
    assert [item for piece in cut for item in piece] == items
    assert all(len(piece) == size for piece in cut[:-1])
