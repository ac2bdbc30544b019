"""The order of things: which texts are gold from the start, who speaks when, and when a cycle runs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

from karen_learner.curation.examples import stratum
from karen_learner.records import LabelledText
from karen_learner.simulation.scenario import Scenario

T = TypeVar("T")

USUAL_CYCLES = 10


class Division(NamedTuple):
    """The gold texts of the bootstrap, and what the users say before each cycle."""

    gold: tuple[LabelledText, ...]
    cycles: tuple[tuple[LabelledText, ...], ...]


def divide(train: Sequence[LabelledText], scenario: Scenario) -> Division:
    """Draw the gold texts, put the others in random order, and cut them at the cycles. Seeded."""
    gold, rest = draw_shots(train, scenario.shots, random.Random(f"{scenario.seed}/order"))  # noqa: S311
    turns = rest[: scenario.limit]
    if scenario.every is not None:
        return Division(tuple(gold), cut_every(turns, scenario.every))
    return Division(tuple(gold), cut_evenly(turns, scenario.cycles or USUAL_CYCLES))


def draw_shots(
    train: Sequence[LabelledText], shots: int, rng: random.Random
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Up to `shots` texts of each stratum, and the others; both in the same random order."""
    order = list(train)
    rng.shuffle(order)
    taken: Counter[str] = Counter()
    gold: list[LabelledText] = []
    rest: list[LabelledText] = []
    for example in order:
        name = stratum(example)
        (gold if taken[name] < shots else rest).append(example)
        taken[name] += 1
    return gold, rest


def cut_every(items: Sequence[T], size: int) -> tuple[tuple[T, ...], ...]:
    """Pieces of `size`; what is left over at the end is a shorter one."""
    return tuple(tuple(items[start : start + size]) for start in range(0, len(items), size))


def cut_evenly(items: Sequence[T], pieces: int) -> tuple[tuple[T, ...], ...]:
    """As many pieces, whose sizes differ by one at most; never an empty one."""
    pieces = max(1, min(pieces, len(items)))
    edges = [len(items) * piece // pieces for piece in range(pieces + 1)]
    return tuple(tuple(items[start:end]) for start, end in pairwise(edges) if start < end)
