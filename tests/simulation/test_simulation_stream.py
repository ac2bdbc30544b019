from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.records import LabelledText
from karen_learner.simulation import Scenario
from karen_learner.simulation.stream import cut_evenly, cut_every, draw_shots, plan_stream

TRAIN = [LabelledText(text=f"text {number}", intent="abc"[number % 3]) for number in range(30)]


def test_shots_are_so_many_of_each_label_and_nothing_is_lost() -> None:
    gold, rest = draw_shots(TRAIN, 4, random.Random(1))
    assert Counter(example.intent for example in gold) == {"a": 4, "b": 4, "c": 4}
    assert sorted(example.text for example in gold + rest) == sorted(example.text for example in TRAIN)


def test_a_label_with_fewer_texts_gives_them_all() -> None:
    gold, rest = draw_shots(TRAIN, 99, random.Random(1))
    assert len(gold) == 30
    assert rest == []


def test_texts_without_intent_are_drawn_by_sentiment() -> None:
    train = [LabelledText(text=str(number), sentiment="np"[number % 2]) for number in range(10)]
    gold, _ = draw_shots(train, 2, random.Random(0))
    assert Counter(example.sentiment for example in gold) == {"n": 2, "p": 2}


def test_the_division_follows_from_the_seed() -> None:
    scenario = Scenario(shots=3, cycles=4, seed=7)
    assert plan_stream(TRAIN, scenario) == plan_stream(TRAIN, scenario)
    assert plan_stream(TRAIN, scenario) != plan_stream(TRAIN, scenario.model_copy(update={"seed": 8}))


def test_cycles_limit_and_rhythm() -> None:
    assert [len(cycle) for cycle in plan_stream(TRAIN, Scenario(shots=3, cycles=4)).cycles] == [5, 5, 5, 6]
    assert [len(cycle) for cycle in plan_stream(TRAIN, Scenario(shots=3, every=8)).cycles] == [8, 8, 5]
    assert [len(cycle) for cycle in plan_stream(TRAIN, Scenario(shots=3, every=8, limit=9)).cycles] == [8, 1]
    assert len(plan_stream(TRAIN, Scenario(shots=3)).cycles) == 10
    assert plan_stream(TRAIN, Scenario(shots=99)).cycles == ()


def test_two_rhythms_are_refused() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        Scenario(cycles=3, every=10)


@given(st.lists(st.integers(), max_size=60), st.integers(1, 70))
def test_even_pieces_keep_everything_in_order(items: list[int], pieces: int) -> None:
    cut = cut_evenly(items, pieces)
    assert [item for piece in cut for item in piece] == items
    assert len(cut) == min(pieces, len(items))
    sizes = [len(piece) for piece in cut]
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(), max_size=60), st.integers(1, 70))
def test_pieces_of_a_size_keep_everything_in_order(items: list[int], size: int) -> None:
    cut = cut_every(items, size)
    assert [item for piece in cut for item in piece] == items
    assert all(len(piece) == size for piece in cut[:-1])
